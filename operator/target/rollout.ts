/**
 * Replacing pods whose template is outdated: one node at a time. Hosts that have another path are moved there first;
 * the others wait while the pod, asked to end, tells them so itself. The next node's turn comes when the last one
 * serves again and its hosts are back.
 */
import { TEMPLATE_HASH_ANNOTATION } from '../build/daemon-set.ts';
import { type DataplaneDaemonSet, type DataplanePod, isPodAlive, isPodReady } from './cluster-objects.ts';
import type { HandledNode } from './handled-node.ts';
import type { Handling } from './handling-writer.ts';
import { hostsHaveOtherPaths, hostsOf, podAskedToLeave, servesBehindPaths } from './node-paths.ts';
import { type Replacement, replacementOf } from './replacement.ts';

/** What is to be done next. */
export type RolloutStep =
  | { readonly kind: 'complete' }
  /** `recheckMs`: when to look again even if nothing is heard. */
  | { readonly kind: 'wait'; readonly message: string; readonly recheckMs?: number }
  /** Make the paths through the node inaccessible, so that its hosts use others. */
  | { readonly kind: 'leave'; readonly pod: DataplanePod; readonly message: string }
  | { readonly kind: 'replace'; readonly pod: DataplanePod; readonly message: string };

/** What a step follows from. */
export interface RolloutInput {
  readonly daemonSet: DataplaneDaemonSet;
  readonly pods: readonly DataplanePod[];
  readonly nodes: readonly HandledNode[];
  /** Nodes of the target are paths to the same namespaces. */
  readonly isShared: boolean;
  /** Longest wait for hosts to leave a node's paths: `link.drainTimeoutSeconds`. */
  readonly leaveTimeoutMs: number;
  readonly nowMs: number;
}

/**
 * Longest wait for hosts to come back to a node that serves again. Linux tries every 10 s; a host that was switched off
 * meanwhile never comes, and must not hold up the rollout.
 */
export const HOSTS_RETURN_MS = 60_000;

/** Hosts named in a message; the rest is counted. */
const HOSTS_NAMED_MAX = 2;

function nodeOf(pod: DataplanePod): string {
  return pod.spec.nodeName ?? pod.metadata.name;
}

function isLeaving(pod: DataplanePod): boolean {
  return pod.metadata.deletionTimestamp !== undefined;
}

function isOutdated(daemonSet: DataplaneDaemonSet, pod: DataplanePod): boolean {
  const wanted = daemonSet.spec.template.metadata.annotations[TEMPLATE_HASH_ANNOTATION];
  return pod.metadata.annotations?.[TEMPLATE_HASH_ANNOTATION] !== wanted;
}

/** Hosts for a message. */
export function namedHosts(hosts: readonly string[]): string {
  const named = hosts.slice(0, HOSTS_NAMED_MAX).join(', ');
  const hidden = hosts.length - HOSTS_NAMED_MAX;
  return hidden > 0 ? `${named} and ${hidden} more` : named;
}

/** Hosts of the pod before that are not connected to the node now. */
export function missingHosts(node: HandledNode, replacement: Replacement): readonly string[] {
  const present = hostsOf(node);
  // More than are named: nobody can say who is missing.
  return present === undefined ? [] : replacement.hosts.filter((host) => !present.has(host));
}

/** When the hosts of a node that serves again are not waited for any longer. */
function returnDeadlineMs({ pod }: HandledNode, replacement: Replacement): number {
  const ready = pod?.status.conditions.find(({ type }) => type === 'Ready')?.lastTransitionTime;
  return Date.parse(ready ?? replacement.since) + HOSTS_RETURN_MS;
}

/** What has become of a replacement that is written down. */
export type ReplacementFate = 'underway' | 'over' | 'hostsMissing';

/** Whether a replacement goes on. `hostsMissing`: it is over, although hosts have not come back. */
export function replacementFate(
  daemonSet: DataplaneDaemonSet,
  node: HandledNode,
  replacement: Replacement,
  nowMs: number,
): ReplacementFate {
  const { pod } = node;
  if (pod?.metadata.uid === replacement.podUid) {
    // The template is what it was again: the pod stays.
    return isOutdated(daemonSet, pod) || isLeaving(pod) ? 'underway' : 'over';
  }
  if (pod === undefined || !isPodReady(pod) || !servesBehindPaths(node)) return 'underway';
  if (missingHosts(node, replacement).length === 0) return 'over';
  return nowMs < returnDeadlineMs(node, replacement) ? 'underway' : 'hostsMissing';
}

function returning(input: RolloutInput): RolloutStep | undefined {
  for (const node of input.nodes) {
    const replacement = replacementOf(node.object);
    if (replacement === undefined || node.pod?.metadata.uid === replacement.podUid) continue;
    if (replacementFate(input.daemonSet, node, replacement, input.nowMs) !== 'underway') continue;
    const missing = missingHosts(node, replacement);
    return {
      kind: 'wait',
      message: `waiting for ${missing.length} of ${replacement.hosts.length} hosts to come back to ${node.nodeName}: ${namedHosts(missing)}`,
      recheckMs: Math.max(0, returnDeadlineMs(node, replacement) - input.nowMs),
    };
  }
  return undefined;
}

function begin(input: RolloutInput, pod: DataplanePod, message: string): RolloutStep {
  const node = input.nodes.find(({ nodeName }) => nodeName === pod.spec.nodeName);
  const mayLeave = node !== undefined && input.isShared && hostsHaveOtherPaths(node, input.nodes);
  const replacement = replacementOf(node?.object);
  if (!mayLeave || node.report.status?.paths === 'Inaccessible') return { kind: 'replace', pod, message };
  if (replacement === undefined || replacement.podUid !== pod.metadata.uid) {
    return { kind: 'leave', pod, message: `moving the hosts of ${nodeOf(pod)} to their other paths` };
  }
  const recheckMs = Date.parse(replacement.since) + input.leaveTimeoutMs - input.nowMs;
  if (recheckMs <= 0) return { kind: 'replace', pod, message };
  return { kind: 'wait', message: `waiting for hosts to leave the paths through ${nodeOf(pod)}`, recheckMs };
}

/** The next step. */
export function nextRolloutStep(input: RolloutInput): RolloutStep {
  const { daemonSet, pods, nodes } = input;
  const alive = pods.filter(isPodAlive);
  const outdated = alive.filter((pod) => isOutdated(daemonSet, pod) && !isLeaving(pod));
  const isReplacing = nodes.some(({ object }) => replacementOf(object) !== undefined);
  if (outdated.length === 0 && !isReplacing) return { kind: 'complete' };

  const leaving = alive.find(isLeaving);
  if (leaving !== undefined) return { kind: 'wait', message: `draining ${nodeOf(leaving)}` };
  if (daemonSet.status.observedGeneration < (daemonSet.metadata.generation ?? 0)) {
    return { kind: 'wait', message: 'waiting for the DaemonSet controller to see the new template' };
  }
  // A pod that does not serve loses nothing, and the new template may be what mends it.
  const broken = outdated.find((pod) => !isPodReady(pod));
  if (broken !== undefined) {
    return {
      kind: 'replace',
      pod: broken,
      message: `replacing the pod on ${nodeOf(broken)}, which is not ready`,
    };
  }
  if (alive.length < daemonSet.status.desiredNumberScheduled) {
    return { kind: 'wait', message: 'waiting for the replaced pod to be created' };
  }
  const serving = new Set(nodes.filter(servesBehindPaths).map(({ nodeName }) => nodeName));
  const catchingUp = alive.find(
    (pod) => !isOutdated(daemonSet, pod) && !(isPodReady(pod) && serving.has(nodeOf(pod))),
  );
  if (catchingUp !== undefined)
    return { kind: 'wait', message: `waiting for ${nodeOf(catchingUp)} to serve again` };
  const hostsToCome = returning(input);
  if (hostsToCome !== undefined) return hostsToCome;
  // One whose hosts have begun to leave comes first.
  const isBegun = (pod: DataplanePod) =>
    nodes.some(({ object }) => replacementOf(object)?.podUid === pod.metadata.uid);
  const [next] = outdated.sort(
    (a, b) => Number(isBegun(b)) - Number(isBegun(a)) || nodeOf(a).localeCompare(nodeOf(b)),
  );
  if (next === undefined) return { kind: 'complete' };
  const message = `replacing the pod on ${nodeOf(next)}, ${outdated.length} of ${alive.length} pods to go`;
  return begin(input, next, message);
}

/** How a node is handled after a step; `replacement` is the one that is under way there. */
export function handlingOf(
  node: HandledNode,
  after: {
    readonly step: RolloutStep;
    readonly replacement: Replacement | undefined;
    readonly nowMs: number;
  },
): Handling {
  const { step, nowMs } = after;
  const { pod } = node;
  if (pod === undefined) return { replacement: after.replacement, leavingPod: undefined };
  const { name, uid = '' } = pod.metadata;
  const isItsTurn = (step.kind === 'leave' || step.kind === 'replace') && step.pod === pod;
  const isBegun = after.replacement?.podUid === uid;
  const hosts = node.report.status?.hosts?.map(({ hostNQN }) => hostNQN) ?? [];
  const replacement =
    isItsTurn && !isBegun
      ? { pod: name, podUid: uid, since: new Date(nowMs).toISOString(), hosts: [...new Set(hosts)] }
      : after.replacement;
  const leaves = (isItsTurn && step.kind === 'leave') || (isBegun && podAskedToLeave(node) === name);
  return { replacement, leavingPod: leaves ? name : undefined };
}
