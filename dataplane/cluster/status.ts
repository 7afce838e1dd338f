/** What a dataplane reports in the status of its NvmeofTargetNode: a pure function of what the core tells. */
import type { Condition } from '../../crds/condition.ts';
import type { NvmeofTargetNodeStatus } from '../../crds/nvmeof-target-node.ts';
import type { CoreStats, ListenerStats, NamespaceStats } from '../core/stats.ts';
import { isServing } from '../health.ts';

/** Hosts that a status names; `connectedHosts` counts them all. The schema's bound. */
const statusHostsMax = 64;

/** The schema's bounds of texts, in characters. */
const reasonLengthMax = 256;
const messageLengthMax = 1024;

/** Why the desired state is not, or not wholly, what is served. */
export interface Refusal {
  /** One CamelCase word. */
  reason: string;
  /** Names the field and what to change. */
  message: string;
}

/** Everything that a status is made from. */
export interface StatusInput {
  stats: CoreStats;
  /** `metadata.generation` that was last judged. */
  generation: number;
  /** Set when the state of that generation was refused; the former one is served. */
  refusal: Refusal | undefined;
  version: string;
  /** Conditions as last written: a condition that stays the same keeps its transition time. */
  previous: readonly Condition[];
  now: Date;
}

/** Types of the conditions of an NvmeofTargetNode. */
export type ConditionType =
  | 'Accepted'
  | 'ListenersReady'
  | 'LinksUp'
  | 'DeviceHealthy'
  | 'NamespacesReady'
  | 'Degraded'
  | 'Ready';

type Verdict = Pick<Condition, 'status' | 'reason' | 'message'>;

/** Builds the whole status. */
export function buildStatus(input: StatusInput): NvmeofTargetNodeStatus {
  const { stats } = input;
  return {
    observedGeneration: input.generation,
    version: input.version,
    conditions: buildConditions(input),
    listeners: stats.listeners.map(listenerStatus),
    namespaces: stats.namespaces.map(namespaceStatus),
    connectedHosts: stats.hostsTotal,
    hosts: hostStatuses(stats),
  };
}

function buildConditions(input: StatusInput): Condition[] {
  const { stats } = input;
  const accepted: Verdict =
    input.refusal === undefined
      ? judge(stats.namespaces.filter(servesFormerState), aboutNamespace, {
          reason: 'Accepted',
          message: 'the desired state is served as far as can be',
        })
      : { status: 'False', ...input.refusal };
  const listeners = judge(
    stats.listeners.filter((listener) => !isServing(listener.phase)),
    (listener) => ({ reason: listener.reason || listener.phase, message: about(listener) }),
    { reason: 'Serving', message: 'every listener serves' },
  );
  const links = judge(
    stats.listeners.filter((listener) => !listener.linkUp),
    (listener) => ({
      reason: 'LinkDown',
      message: `listener ${listener.name}: link ${listener.netdev ?? ''} is down`,
    }),
    { reason: 'LinksUp', message: 'every link is up' },
  );
  const devices = judge(
    stats.listeners.filter((listener) => listener.phase === 'Failed'),
    (listener) => ({ reason: listener.reason || 'DeviceFailed', message: about(listener) }),
    { reason: 'Healthy', message: 'no device reports an error' },
  );
  const namespaces = judge(
    stats.namespaces.filter((namespace) => namespace.state !== 'Ready'),
    aboutNamespace,
    { reason: 'Ready', message: 'every namespace is ready' },
  );
  const degraded = judge(
    stats.listeners.filter((listener) => listener.phase === 'Degraded'),
    (listener) => ({ reason: listener.reason || 'Degraded', message: about(listener) }),
    { reason: 'FullService', message: 'nothing serves with less than it should' },
  );
  const verdicts: [ConditionType, Verdict][] = [
    ['Accepted', accepted],
    ['ListenersReady', listeners],
    ['LinksUp', links],
    ['DeviceHealthy', devices],
    ['NamespacesReady', namespaces],
    ['Degraded', { ...degraded, status: degraded.status === 'False' ? 'True' : 'False' }],
    ['Ready', readyVerdict(stats, accepted, [devices, links, listeners, namespaces])],
  ];
  return verdicts.map(([type, verdict]) => {
    const before = input.previous.find((condition) => condition.type === type);
    return {
      type,
      status: verdict.status,
      observedGeneration: input.generation,
      lastTransitionTime:
        before?.status === verdict.status ? before.lastTransitionTime : input.now.toISOString(),
      reason: conditionReason(verdict.reason),
      message: clip(verdict.message, messageLengthMax),
    };
  });
}

/**
 * The first thing that stands in the way of being ready, the cause before its consequences. A change that was refused
 * does not: what was there before is served in full.
 */
function readyVerdict(stats: CoreStats, accepted: Verdict, parts: readonly Verdict[]): Verdict {
  if (stats.state !== 'Running') {
    return { status: 'False', reason: 'Draining', message: 'the dataplane is leaving; hosts were told' };
  }
  if (stats.generation === 0 && accepted.status === 'False') return accepted;
  if (stats.generation === 0) {
    return { status: 'False', reason: 'Starting', message: 'no desired state is served yet' };
  }
  const obstacle = parts.find((part) => part.status === 'False');
  return obstacle ?? { status: 'True', reason: 'Ready', message: 'every listener and namespace serves' };
}

/** True when nothing is wrong; else False with the reason of the first and the messages of all that are. */
function judge<T>(
  wrong: readonly T[],
  explain: (item: T) => { reason: string; message: string },
  right: { reason: string; message: string },
): Verdict {
  const [first, ...others] = wrong.map(explain);
  if (first === undefined) return { status: 'True', ...right };
  return {
    status: 'False',
    reason: first.reason,
    message: [first, ...others].map((one) => one.message).join('; '),
  };
}

function about(listener: ListenerStats): string {
  const why = [listener.phase, listener.message || listener.reason].filter((part) => part !== '');
  return `listener ${listener.name}: ${why.join(': ')}`;
}

/** A namespace that is served as it was, because what is asked for now was refused (to shrink it, for one). */
function servesFormerState(namespace: NamespaceStats): boolean {
  return namespace.state === 'Ready' && namespace.reason !== '' && namespace.reason !== 'Grown';
}

function aboutNamespace(namespace: NamespaceStats): { reason: string; message: string } {
  const { nsid, subsystem, state, reason, message } = namespace;
  return {
    reason: reason || state,
    message: `namespace ${nsid} of ${subsystem}: ${message || reason || state}`,
  };
}

function listenerStatus(listener: ListenerStats): NonNullable<NvmeofTargetNodeStatus['listeners']>[number] {
  return {
    name: listener.name,
    ...(listener.address === null ? {} : { address: listener.address }),
    port: listener.port,
    ...(listener.device === null ? {} : { device: listener.device }),
    ...(listener.netdev === null ? {} : { netdev: listener.netdev }),
    linkUp: listener.linkUp,
    phase: listener.phase,
    epoch: listener.epoch,
    ...since('lastTransitionTime', listener.sinceMs),
    ...texts(listener),
    queuePairs: listener.queuePairs,
    memoryRegions: listener.memoryRegions,
    linkTransitions: listener.linkTransitions,
    drains: listener.drains,
  };
}

type NamespaceStatus = NonNullable<NvmeofTargetNodeStatus['namespaces']>[number];

function namespaceStatus(namespace: NamespaceStats): NamespaceStatus {
  return {
    subsystem: namespace.subsystem,
    nsid: namespace.nsid,
    ...(namespace.uuid === '' ? {} : { uuid: namespace.uuid }),
    state: namespace.state === 'Opening' ? 'Pending' : namespace.state,
    ...texts(namespace),
    sizeBytes: namespace.sizeBytes,
    volatile: namespace.volatile,
  };
}

/** Hosts in a fixed order, so that an unchanged list is an unchanged status. Discovery is no use of storage. */
function hostStatuses(stats: CoreStats): NonNullable<NvmeofTargetNodeStatus['hosts']> {
  return stats.hosts
    .filter((host) => !host.discovery)
    .toSorted((a, b) => a.subsystem.localeCompare(b.subsystem) || a.controllerId - b.controllerId)
    .slice(0, statusHostsMax)
    .map((host) => ({
      subsystem: host.subsystem,
      hostNQN: host.hostNqn,
      controllerID: host.controllerId,
      listener: host.listener,
      source: host.source,
      queues: host.queues,
      ...since('connectedSince', host.sinceMs),
    }));
}

function texts({ reason, message }: { reason: string; message: string }): {
  reason?: string;
  message?: string;
} {
  return {
    ...(reason === '' ? {} : { reason: clip(reason, reasonLengthMax) }),
    ...(message === '' ? {} : { message: clip(message, messageLengthMax) }),
  };
}

function since<Name extends string>(name: Name, timeMs: number): Partial<Record<Name, string>> {
  // Zero: the core does not know. Whole seconds: all that the API keeps.
  if (timeMs === 0) return {};
  const time = `${new Date(timeMs).toISOString().slice(0, 19)}Z`;
  return { [name]: time } as Partial<Record<Name, string>>;
}

/** A reason that the API accepts: one word. */
function conditionReason(reason: string): string {
  const word = reason.replaceAll(/[^A-Za-z0-9_]/g, '').replace(/^[^A-Za-z]+/, '');
  return word === '' ? 'Unknown' : clip(word, reasonLengthMax);
}

function clip(text: string, lengthMax: number): string {
  return text.length <= lengthMax ? text : `${text.slice(0, lengthMax - 1)}…`;
}
