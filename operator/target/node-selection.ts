/** Which nodes a target runs on: the same answer that the DaemonSet controller comes to. */

import type { NvmeofTargetSpec } from '../../crds/nvmeof-target.ts';
import type { NodeRequirement, NodeSelectorTerm, Toleration } from '../../crds/scheduling.ts';
import type { ClusterNode, Taint } from './cluster-objects.ts';

/**
 * Tolerations that the DaemonSet controller adds to every pod on the host network; and of any effect those of nodes in
 * trouble: a node that is not ready, or has no pod network, gets no new pod, but a target that should be served there
 * misses it.
 */
const DAEMON_TOLERATIONS: readonly Toleration[] = [
  { key: 'node.kubernetes.io/not-ready', operator: 'Exists' },
  { key: 'node.kubernetes.io/unreachable', operator: 'Exists' },
  { key: 'node.kubernetes.io/disk-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/memory-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/pid-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/unschedulable', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/network-unavailable', operator: 'Exists', effect: 'NoSchedule' },
];

function compareAsIntegers(actual: string | undefined, limit: string | undefined, greater: boolean): boolean {
  if (actual === undefined || limit === undefined) return false;
  const [left, right] = [Number.parseInt(actual, 10), Number.parseInt(limit, 10)];
  if (Number.isNaN(left) || Number.isNaN(right)) return false;
  return greater ? left > right : left < right;
}

function meetsRequirement(actual: string | undefined, requirement: NodeRequirement): boolean {
  const { operator, values } = requirement;
  switch (operator) {
    case 'In':
      return actual !== undefined && values.includes(actual);
    case 'NotIn':
      return actual === undefined || !values.includes(actual);
    case 'Exists':
      return actual !== undefined;
    case 'DoesNotExist':
      return actual === undefined;
    case 'Gt':
      return compareAsIntegers(actual, values[0], true);
    case 'Lt':
      return compareAsIntegers(actual, values[0], false);
  }
}

function matchesTerm(node: ClusterNode, term: NodeSelectorTerm): boolean {
  // An empty term matches nothing, as in a pod.
  if (term.matchExpressions.length + term.matchFields.length === 0) return false;
  const labels = node.metadata.labels ?? {};
  return (
    term.matchExpressions.every((requirement) => meetsRequirement(labels[requirement.key], requirement)) &&
    term.matchFields.every(
      (requirement) =>
        requirement.key === 'metadata.name' && meetsRequirement(node.metadata.name, requirement),
    )
  );
}

/** Whether a node matches one of the terms, as for a pod or a volume with node affinity. */
export function matchesAnyTerm(node: ClusterNode, terms: readonly NodeSelectorTerm[]): boolean {
  return terms.some((term) => matchesTerm(node, term));
}

function tolerates(taint: Taint, toleration: Toleration): boolean {
  if (toleration.effect !== undefined && toleration.effect !== taint.effect) return false;
  const anyKey = toleration.key === undefined || toleration.key === '';
  if (!anyKey && toleration.key !== taint.key) return false;
  return toleration.operator === 'Exists' || (!anyKey && (toleration.value ?? '') === taint.value);
}

function toleratesAll(taints: readonly Taint[], tolerations: readonly Toleration[]): boolean {
  return taints.every(
    (taint) =>
      taint.effect === 'PreferNoSchedule' || tolerations.some((toleration) => tolerates(taint, toleration)),
  );
}

/** What of a target decides where it runs. */
type Placement = Pick<NvmeofTargetSpec, 'nodeSelector' | 'affinity' | 'tolerations'>;

/**
 * Whether the target should run on the node. A pod that runs there already stays when the node is tainted against
 * scheduling only.
 */
export function isSelected(node: ClusterNode, spec: Placement, hasPod = false): boolean {
  const taints = node.spec.taints.filter(({ effect }) => !hasPod || effect === 'NoExecute');
  const labels = node.metadata.labels ?? {};
  const terms = spec.affinity?.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms;
  return (
    Object.entries(spec.nodeSelector).every(([key, value]) => labels[key] === value) &&
    (terms === undefined || matchesAnyTerm(node, terms)) &&
    toleratesAll(taints, [...DAEMON_TOLERATIONS, ...spec.tolerations])
  );
}

/** Names of the nodes that the target should run on, in order. */
export function selectedNodes(nodes: Iterable<ClusterNode>, spec: Placement): string[] {
  const names: string[] = [];
  for (const node of nodes) if (isSelected(node, spec)) names.push(node.metadata.name);
  return names.sort();
}
