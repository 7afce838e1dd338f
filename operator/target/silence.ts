/**
 * Whether a node's dataplane still stands for what it reported last. While no process of it does, the operator says
 * `Unknown` in its place, as the node controller does for a kubelet that went silent.
 */
import type { SILENCE_REASONS } from '../../crds/condition-reasons.ts';
import type { NvmeofTargetNodeStatus } from '../../crds/nvmeof-target-node.ts';
import type { Silence } from '../../crds/silent-status.ts';
import { type ClusterNode, type DataplanePod, isPodAlive, isPodReady } from './cluster-objects.ts';
import { findCondition } from './conditions.ts';

type Reason = keyof typeof SILENCE_REASONS;

const UNREACHABLE_TAINT = 'node.kubernetes.io/unreachable';

function silence(reason: Reason, message: string, mayServe = false): Silence {
  return { reason, message, ...(mayServe ? { mayServe } : {}) };
}

type ContainerStatus = DataplanePod['status']['containerStatuses'][number];

/** What the container does instead of running. */
function whyNotRunning(pod: DataplanePod, container: ContainerStatus | undefined): string {
  const { waiting, terminated } = container?.state ?? {};
  const ended = terminated ?? container?.lastState.terminated;
  const last = ended === undefined ? '' : `it ended with exit code ${ended.exitCode}`;
  const now = waiting === undefined ? '' : waiting.reason;
  const facts = [last, now].filter((text) => text !== '').join(', ');
  return `the dataplane does not run in pod ${pod.metadata.name}${facts === '' ? '' : `: ${facts}`}`;
}

const OPERATOR_REASONS: ReadonlySet<string> = new Set<Reason>([
  'NoPod',
  'NodeUnreachable',
  'DataplaneNotRunning',
  'DataplaneStarting',
]);

/** Whether the status is a dataplane's word, its last one included, and not the operator's in its place. */
export function hasReported(status: NvmeofTargetNodeStatus | undefined): boolean {
  const ready = findCondition(status?.conditions, 'Ready');
  return ready !== undefined && !(ready.status === 'Unknown' && OPERATOR_REASONS.has(ready.reason));
}

/**
 * Why nothing is known of a node; undefined while a running process stands for `status`.
 *
 * A pod that is not ready is no reason by itself: a dataplane whose link is down is not ready, and it is the one that
 * says so. What counts is whether the process that reported still runs. Start times are compared only with each other
 * on one node, so clocks that differ between machines change nothing.
 */
export function judgeSilence(
  pods: readonly DataplanePod[],
  node: ClusterNode | undefined,
  status: NvmeofTargetNodeStatus | undefined,
): Silence | undefined {
  const alive = pods.filter(isPodAlive);
  const pod = alive.find(isPodReady) ?? alive[0];
  if (node?.spec.taints.some(({ key }) => key === UNREACHABLE_TAINT) === true) {
    return silence('NodeUnreachable', 'the node does not report to the cluster', pod !== undefined);
  }
  if (pod === undefined) return silence('NoPod', 'no pod runs on the node');
  if (!isPodReady(pod)) {
    const [container] = pod.status.containerStatuses;
    const running = container?.state.running;
    if (running === undefined) return silence('DataplaneNotRunning', whyNotRunning(pod, container));
    const reporter = status?.startTime;
    if (reporter !== undefined && Date.parse(running.startedAt) > Date.parse(reporter)) {
      const ended = container?.lastState.terminated;
      const before = ended === undefined ? '' : `; the one before ended with exit code ${ended.exitCode}`;
      return silence('DataplaneStarting', `the dataplane was started and has not reported yet${before}`);
    }
  }
  return hasReported(status) ? undefined : silence('DataplaneStarting', 'the dataplane has not reported yet');
}

/**
 * Whether the operator has to say so in the dataplane's place. The last word of a dataplane stays: it knew better why
 * it left.
 */
export function needsSilencing(status: NvmeofTargetNodeStatus | undefined, why: Silence): boolean {
  const ready = findCondition(status?.conditions, 'Ready');
  if (status === undefined || ready === undefined || status.startTime !== undefined) return true;
  if (ready.status !== 'Unknown') return true;
  return !hasReported(status) && (ready.reason !== why.reason || ready.message !== why.message);
}
