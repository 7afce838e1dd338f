/** Whether the paths through a node can be given up for a while without a host losing its storage. */
import { SPEC_FIELD_REVISIONS } from '../../crds/nvmeof-target-node.ts';
import { findCondition } from './conditions.ts';
import type { HandledNode } from './handled-node.ts';
import { isNodeReady } from './roll-up.ts';

/** Reason of `Ready=False` of a node whose paths were given up; it serves all the same. */
const PATHS_INACCESSIBLE = 'PathsInaccessible';

/** NQNs of the hosts that are connected to a node; undefined when not all of them are known. */
export function hostsOf({ report }: HandledNode): ReadonlySet<string> | undefined {
  const { hosts = [], connectedHosts = 0 } = report.status ?? {};
  // Discovery is counted and not listed, so a count that is higher says nothing while the list has room.
  const isCut = hosts.length >= STATUS_HOSTS_MAX && connectedHosts > hosts.length;
  return isCut ? undefined : new Set(hosts.map(({ hostNQN }) => hostNQN));
}

/** Hosts that a status names; the schema's bound. */
const STATUS_HOSTS_MAX = 64;

/** Whether a node serves in full, or would if its paths were not given up. */
export function servesBehindPaths({ report }: HandledNode): boolean {
  if (isNodeReady(report)) return true;
  const ready = findCondition(report.status?.conditions, 'Ready');
  return report.silence === undefined && report.podReady && ready?.reason === PATHS_INACCESSIBLE;
}

/** Pod whose paths the node's object says are inaccessible. */
export function podAskedToLeave({ object }: HandledNode): string | undefined {
  const paths = object?.spec.paths;
  return paths?.state === 'Inaccessible' ? paths.ofPod : undefined;
}

function isAskedToLeave(node: HandledNode): boolean {
  return node.pod !== undefined && podAskedToLeave(node) === node.pod.metadata.name;
}

/** Whether the dataplane knows what is asked of it. */
function knowsPaths({ report }: HandledNode): boolean {
  return (report.status?.specRevision ?? 1) >= SPEC_FIELD_REVISIONS.paths;
}

/**
 * Whether every host of a node is connected to another one that serves. `others` are nodes of the same subsystem. A
 * node without hosts has nothing to give up.
 */
export function hostsHaveOtherPaths(node: HandledNode, others: readonly HandledNode[]): boolean {
  const hosts = hostsOf(node);
  if (hosts === undefined || hosts.size === 0 || !knowsPaths(node)) return false;
  const serving = others.filter(
    (other) => other !== node && isNodeReady(other.report) && !isAskedToLeave(other),
  );
  const elsewhere = new Set(serving.flatMap((other) => [...(hostsOf(other) ?? [])]));
  return [...hosts].every((host) => elsewhere.has(host));
}

/**
 * Cordoned nodes whose paths are to be given up: maintenance is coming, and their hosts have other paths. Judged anew
 * with every report: a host that loses its other path gets this one back. Of two nodes that could go, one stays.
 */
export function cordonedNodesToLeave(nodes: readonly HandledNode[]): ReadonlySet<HandledNode> {
  const cordoned = nodes.filter(({ isCordoned, pod }) => isCordoned && pod !== undefined);
  const leaving = new Set<HandledNode>();
  // Those that were asked stay asked: else two nodes would take turns.
  for (const node of [
    ...cordoned.filter(isAskedToLeave),
    ...cordoned.filter((node) => !isAskedToLeave(node)),
  ]) {
    const others = nodes.filter((other) => !leaving.has(other));
    if (hostsHaveOtherPaths(node, others)) leaving.add(node);
  }
  return leaving;
}
