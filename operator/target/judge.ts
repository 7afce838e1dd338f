/** Judges what no schema can: a target against its nodes, the other targets and the operator's settings. */
import { type Listener, listenersClash } from '../../crds/listener.ts';
import { isOnHostNetwork } from '../../crds/network.ts';
import type { NvmeofTargetSpec, TargetNamespace } from '../../crds/nvmeof-target.ts';
import { NQN_LENGTH_MAX } from '../../crds/qualified-name.ts';
import { quantityToBytes } from '../../crds/quantity.ts';
import { nodeNqn } from '../build/target-node.ts';
import type { DataplaneSettings } from '../settings.ts';
import { SHARED_NODES_MAX } from './controller-ids.ts';
import { Refusal } from './refusal.ts';

/** Another target of the cluster, as far as it can stand in the way. Only older ones are passed: they win. */
export interface OlderTarget {
  /** `<namespace>/<name>`. */
  readonly key: string;
  readonly nqn: string;
  readonly spec: NvmeofTargetSpec;
  readonly nodes: ReadonlySet<string>;
}

/** What a dataplane needs beside memory backends: code, buffers, queues. */
const BASE_MEMORY_BYTES = 160 * 1024 * 1024;

const MEBIBYTE = 1024 * 1024;

function isBelow(path: string, directories: readonly string[]): boolean {
  return directories.some((directory) => path.startsWith(`${directory.replace(/\/+$/, '')}/`));
}

function judgePaths(namespaces: readonly TargetNamespace[], settings: DataplaneSettings): void {
  for (const { nsid, backend } of namespaces) {
    const file = backend.file?.path;
    if (file !== undefined && !isBelow(file, settings.fileDirectories)) {
      throw new Refusal(
        'PathNotAllowed',
        `namespace ${nsid}: file ${file} lies outside the directories that targets may use (${settings.fileDirectories.join(', ')}); move it, or extend dataplane.fileDirectories of the chart`,
      );
    }
    const device = backend.blockDevice?.path;
    if (device !== undefined && !isBelow(device, settings.deviceDirectories)) {
      throw new Refusal(
        'PathNotAllowed',
        `namespace ${nsid}: block device ${device} lies outside the directories that targets may use (${settings.deviceDirectories.join(', ')}); use another path, or extend dataplane.deviceDirectories of the chart`,
      );
    }
  }
}

/** Two nodes that show different data under one UUID corrupt what hosts write: they take them for two paths. */
function judgeSharing(spec: NvmeofTargetSpec, nodes: ReadonlySet<string>): void {
  if (spec.scope !== 'Shared' || nodes.size < 2) return;
  const local = spec.namespaces.find(
    ({ backend }) => backend.file !== undefined || backend.memory !== undefined,
  );
  if (local !== undefined) {
    throw new Refusal(
      'DataNotShared',
      `namespace ${local.nsid} is a ${local.backend.file === undefined ? 'memory' : 'file'} backend and ${nodes.size} nodes are selected: with scope Shared every node must serve the same data; set scope: PerNode, select one node, or use a block device that all nodes share`,
    );
  }
  if (nodes.size > SHARED_NODES_MAX) {
    throw new Refusal(
      'TooManyNodes',
      `${nodes.size} nodes are selected: a shared subsystem spans at most ${SHARED_NODES_MAX}; narrow nodeSelector, or set scope: PerNode`,
    );
  }
}

function judgeNqnLength(spec: NvmeofTargetSpec, nqn: string, nodes: ReadonlySet<string>): void {
  for (const node of nodes) {
    const length = nodeNqn(nqn, spec.scope, node).length;
    if (length > NQN_LENGTH_MAX) {
      throw new Refusal(
        'NQNTooLong',
        `with scope PerNode the NQN on node ${node} has ${length} characters, ${NQN_LENGTH_MAX} are allowed: shorten spec.nqn`,
      );
    }
  }
}

function judgeMemory(spec: NvmeofTargetSpec): void {
  const limit = quantityToBytes(spec.resources.limits['memory'] ?? '');
  if (limit === undefined) return;
  const backends = spec.namespaces.map(({ backend }) => quantityToBytes(backend.memory?.size ?? '') ?? 0);
  const needed = backends.reduce((sum, size) => sum + size, BASE_MEMORY_BYTES);
  if (limit < needed) {
    throw new Refusal(
      'MemoryLimitTooLow',
      `resources.limits.memory is ${spec.resources.limits['memory']}, the target needs ${Math.ceil(needed / MEBIBYTE)}Mi with its memory backends: raise the limit, or leave it out`,
    );
  }
}

function firstCommon(left: ReadonlySet<string>, right: ReadonlySet<string>): string | undefined {
  for (const node of left) if (right.has(node)) return node;
  return undefined;
}

/** A target as far as its NQNs go. */
interface Named {
  readonly nqn: string;
  readonly scope: NvmeofTargetSpec['scope'];
  readonly nodes: ReadonlySet<string>;
}

/** Whether `shared` has the NQN of a node of `perNode`. */
function takesNodeNqn(shared: Named, perNode: Named): boolean {
  if (shared.scope !== 'Shared' || perNode.scope !== 'PerNode') return false;
  for (const node of perNode.nodes) if (nodeNqn(perNode.nqn, 'PerNode', node) === shared.nqn) return true;
  return false;
}

function judgeNqn(own: Named, other: OlderTarget): void {
  const named: Named = { nqn: other.nqn, scope: other.spec.scope, nodes: other.nodes };
  if (own.nqn === named.nqn || takesNodeNqn(own, named) || takesNodeNqn(named, own)) {
    throw new Refusal('NQNInUse', `NvmeofTarget ${other.key} has the NQN ${named.nqn}: choose another one`);
  }
}

/** Path of what a namespace writes to on its node; undefined where it writes nothing that another could have. */
function writtenPath({ readOnly, backend }: TargetNamespace): string | undefined {
  return readOnly ? undefined : (backend.blockDevice?.path ?? backend.file?.path);
}

/** What one target says of itself twice. */
function judgeRepetitions(spec: NvmeofTargetSpec): void {
  spec.listeners.forEach((listener, index) => {
    const clash = spec.listeners.slice(0, index).find((earlier) => listenersClash(earlier, listener));
    if (clash === undefined) return;
    throw new Refusal(
      'ListenerConflict',
      `listeners ${clash.name} and ${listener.name} have the same address and port ${listener.port}: give each its own port or address`,
    );
  });
  const writers = new Map<string, number>();
  for (const namespace of spec.namespaces) {
    const path = writtenPath(namespace);
    if (path === undefined) continue;
    const first = writers.get(path);
    if (first !== undefined) {
      throw new Refusal(
        'BackendConflict',
        `namespaces ${first} and ${namespace.nsid} both write to ${path}: hosts would overwrite each other's data; give each its own, or set readOnly on one`,
      );
    }
    writers.set(path, namespace.nsid);
  }
}

/** A listener that binds what one of `other` binds, on whichever node both are. */
function listenerClash(
  spec: NvmeofTargetSpec,
  other: NvmeofTargetSpec,
): { own: Listener; theirs: Listener } | undefined {
  // A pod off the host network has addresses and ports of its own.
  if (!isOnHostNetwork(spec) || !isOnHostNetwork(other)) return undefined;
  for (const own of spec.listeners) {
    const theirs = other.listeners.find((listener) => listenersClash(own, listener));
    if (theirs !== undefined) return { own, theirs };
  }
  return undefined;
}

function judgeNeighbours(
  spec: NvmeofTargetSpec,
  nqn: string,
  nodes: ReadonlySet<string>,
  older: readonly OlderTarget[],
): void {
  const written = new Map(spec.namespaces.map((namespace) => [writtenPath(namespace), namespace.nsid]));
  written.delete(undefined);
  for (const other of older) {
    judgeNqn({ nqn, scope: spec.scope, nodes }, other);
    const clash = listenerClash(spec, other.spec);
    const twice = other.spec.namespaces.find((namespace) => written.has(writtenPath(namespace)));
    if (clash === undefined && twice === undefined) continue;
    const node = firstCommon(nodes, other.nodes);
    if (node === undefined) continue;
    if (clash !== undefined) {
      throw new Refusal(
        'ListenerConflict',
        `listener ${clash.own.name} has the address and port ${clash.own.port} of listener ${clash.theirs.name} of NvmeofTarget ${other.key} on node ${node}: choose another port or address`,
      );
    }
    if (twice !== undefined) {
      const path = writtenPath(twice);
      throw new Refusal(
        'BackendConflict',
        `namespace ${written.get(path)} writes to ${path}, and so does namespace ${twice.nsid} of NvmeofTarget ${other.key} on node ${node}: hosts would overwrite each other's data; use another one, or set readOnly`,
      );
    }
  }
}

/** Throws a {@link Refusal} when the target cannot be served as it is written. */
export function judgeTarget(
  spec: NvmeofTargetSpec,
  nqn: string,
  nodes: ReadonlySet<string>,
  older: readonly OlderTarget[],
  settings: DataplaneSettings,
): void {
  judgePaths(spec.namespaces, settings);
  judgeSharing(spec, nodes);
  judgeNqnLength(spec, nqn, nodes);
  judgeMemory(spec);
  judgeRepetitions(spec);
  judgeNeighbours(spec, nqn, nodes, older);
}
