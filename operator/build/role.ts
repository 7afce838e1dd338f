/** What a target's dataplanes may do: read their own desired state, report on it, and say what happened. */
import { GROUP, TARGET_NODE_PLURAL } from '../../crds/api-group.ts';
import { childName } from '../../crds/object-names.ts';
import type { AppliedObject } from '../kubernetes/object.ts';
import { childMetadata, type TargetIdentity } from './child.ts';

/**
 * Role of a target's pods. All pods of a target share it, so it names the objects of all its nodes; the chart's
 * ValidatingAdmissionPolicy confines each pod to the object of the node it runs on.
 */
export function buildRole(target: TargetIdentity, targetNodeNames: readonly string[]): AppliedObject {
  const resourceNames = [...targetNodeNames].sort();
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'Role',
    metadata: childMetadata(target, childName(target.name)),
    rules: [
      // Without names a rule would cover every object: no nodes, no rule.
      ...(resourceNames.length === 0
        ? []
        : [
            {
              apiGroups: [GROUP],
              resources: [TARGET_NODE_PLURAL],
              resourceNames,
              verbs: ['get', 'list', 'watch'],
            },
            {
              apiGroups: [GROUP],
              resources: [`${TARGET_NODE_PLURAL}/status`],
              resourceNames,
              verbs: ['patch'],
            },
          ]),
      { apiGroups: ['events.k8s.io'], resources: ['events'], verbs: ['create', 'patch'] },
    ],
  };
}
