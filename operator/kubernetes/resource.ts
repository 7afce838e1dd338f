/** Resources of the API and the paths under which they are served. */
import {
  GROUP,
  TARGET_KIND,
  TARGET_NODE_KIND,
  TARGET_NODE_PLURAL,
  TARGET_PLURAL,
  VERSION,
} from '../../crds/api-group.ts';

/** One kind of object as the API serves it. */
export interface Resource {
  /** API group; empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
}

const namespaced = (group: string, version: string, kind: string, plural: string): Resource => ({
  group,
  version,
  kind,
  plural,
  namespaced: true,
});

/** Every resource that the operator reads or writes. */
export const RESOURCES = {
  targets: namespaced(GROUP, VERSION, TARGET_KIND, TARGET_PLURAL),
  targetNodes: namespaced(GROUP, VERSION, TARGET_NODE_KIND, TARGET_NODE_PLURAL),
  daemonSets: namespaced('apps', 'v1', 'DaemonSet', 'daemonsets'),
  pods: namespaced('', 'v1', 'Pod', 'pods'),
  serviceAccounts: namespaced('', 'v1', 'ServiceAccount', 'serviceaccounts'),
  roles: namespaced('rbac.authorization.k8s.io', 'v1', 'Role', 'roles'),
  roleBindings: namespaced('rbac.authorization.k8s.io', 'v1', 'RoleBinding', 'rolebindings'),
  persistentVolumeClaims: namespaced('', 'v1', 'PersistentVolumeClaim', 'persistentvolumeclaims'),
  persistentVolumes: {
    group: '',
    version: 'v1',
    kind: 'PersistentVolume',
    plural: 'persistentvolumes',
    namespaced: false,
  },
  podDisruptionBudgets: namespaced('policy', 'v1', 'PodDisruptionBudget', 'poddisruptionbudgets'),
  resourceClaimTemplates: namespaced(
    'resource.k8s.io',
    'v1',
    'ResourceClaimTemplate',
    'resourceclaimtemplates',
  ),
  leases: namespaced('coordination.k8s.io', 'v1', 'Lease', 'leases'),
  events: namespaced('events.k8s.io', 'v1', 'Event', 'events'),
  nodes: { group: '', version: 'v1', kind: 'Node', plural: 'nodes', namespaced: false },
  namespaces: { group: '', version: 'v1', kind: 'Namespace', plural: 'namespaces', namespaced: false },
} as const satisfies Record<string, Resource>;

/** `apiVersion` of a resource's objects. */
export function apiVersionOf(resource: Resource): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
}

/** Path of a resource's list: of one namespace, or of all when none is given. */
export function listPath(resource: Resource, namespace?: string): string {
  const root =
    resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const scope = namespace === undefined ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${root}${scope}/${resource.plural}`;
}

/** Path of one object or of one of its subresources. */
export function objectPath(
  resource: Resource,
  id: { readonly namespace?: string; readonly name: string },
  subresource?: 'status',
): string {
  const path = `${listPath(resource, id.namespace)}/${encodeURIComponent(id.name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}
