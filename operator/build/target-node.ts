/** The resolved desired state of one node. */
import { API_VERSION, NODE_LABEL, TARGET_NODE_KIND } from '../../crds/api-group.ts';
import type { ClaimBackend, NvmeofTargetSpec, TargetNamespace } from '../../crds/nvmeof-target.ts';
import type { NvmeofTargetNodeSpecInput } from '../../crds/nvmeof-target-node.ts';
import { labelValue, targetNodeName } from '../../crds/object-names.ts';
import { perNodeNqn } from '../../crds/qualified-name.ts';
import { quantityToBytes } from '../../crds/quantity.ts';
import { derivedNamespaceUuid } from '../../crds/uuid.ts';
import type { AppliedObject } from '../kubernetes/object.ts';
import { childMetadata, type TargetIdentity } from './child.ts';
import { claimPath } from './claim-volumes.ts';

/** Controller ids that one node of a subsystem may give out. */
export interface ControllerIds {
  readonly first: number;
  readonly last: number;
}

type Subsystem = NvmeofTargetNodeSpecInput['subsystems'][number];
type Namespace = NonNullable<Subsystem['namespaces']>[number];

/** The schema has judged every size; one that cannot be read here is a defect. */
function bytes(size: string): number {
  const value = quantityToBytes(size);
  if (value === undefined) throw new Error(`size ${size} passed the schema and is no number of bytes`);
  return value;
}

/** Bytes that PersistentVolumeClaims have, by name, as far as they are known. */
export type ClaimCapacities = ReadonlyMap<string, number>;

function resolveClaim(claim: ClaimBackend, capacities: ClaimCapacities): Namespace['backend'] {
  const path = claimPath(claim);
  if (claim.file !== undefined) return { file: { path, sizeBytes: bytes(claim.file.size) } };
  const expectedSizeBytes = capacities.get(claim.claimName);
  return { blockDevice: { path, ...(expectedSizeBytes === undefined ? {} : { expectedSizeBytes }) } };
}

function resolveBackend(
  backend: TargetNamespace['backend'],
  capacities: ClaimCapacities,
): Namespace['backend'] {
  if (backend.file !== undefined) {
    return { file: { path: backend.file.path, sizeBytes: bytes(backend.file.size) } };
  }
  if (backend.persistentVolumeClaim !== undefined) {
    return resolveClaim(backend.persistentVolumeClaim, capacities);
  }
  if (backend.memory !== undefined) return { memory: { sizeBytes: bytes(backend.memory.size) } };
  return { blockDevice: backend.blockDevice };
}

function resolveNamespace(nqn: string, namespace: TargetNamespace, capacities: ClaimCapacities): Namespace {
  return {
    nsid: namespace.nsid,
    uuid: namespace.uuid ?? derivedNamespaceUuid(nqn, namespace.nsid),
    readOnly: namespace.readOnly,
    anaGroup: namespace.anaGroup,
    backend: resolveBackend(namespace.backend, capacities),
  };
}

/** NQN of the subsystem on a node. */
export function nodeNqn(nqn: string, scope: NvmeofTargetSpec['scope'], nodeName: string): string {
  return scope === 'PerNode' ? perNodeNqn(nqn, nodeName) : nqn;
}

/** The NvmeofTargetNode of a target on a node. `nqn` is the target's, before any per-node suffix. */
export function buildTargetNode(
  target: TargetIdentity,
  spec: NvmeofTargetSpec,
  nqn: string,
  nodeName: string,
  controllerIDs: ControllerIds,
  capacities: ClaimCapacities,
): AppliedObject {
  const subsystemNqn = nodeNqn(nqn, spec.scope, nodeName);
  const nodeSpec: NvmeofTargetNodeSpecInput = {
    nodeName,
    target: `${target.namespace}/${target.name}`,
    paused: spec.paused,
    listeners: spec.listeners,
    subsystems: [
      {
        nqn: subsystemNqn,
        access: spec.access,
        controllerIDs,
        namespaces: spec.namespaces.map((namespace) => resolveNamespace(subsystemNqn, namespace, capacities)),
      },
    ],
    queues: spec.queues,
    keepAlive: spec.keepAlive,
    link: spec.link,
    polling: spec.polling,
  };
  return {
    apiVersion: API_VERSION,
    kind: TARGET_NODE_KIND,
    metadata: childMetadata(target, targetNodeName(target.name, nodeName), {
      [NODE_LABEL]: labelValue(nodeName),
    }),
    spec: nodeSpec,
  };
}
