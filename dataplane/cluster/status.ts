/** What a dataplane reports in the status of its NvmeofTargetNode: a pure function of what the core tells. */
import type { Condition } from '../../crds/condition.ts';
import { type NvmeofTargetNodeStatus, SPEC_REVISION } from '../../crds/nvmeof-target-node.ts';
import { type Silence, silentStatus } from '../../crds/silent-status.ts';
import type { CoreStats, ListenerStats, NamespaceStats } from '../core/stats.ts';
import { judgeConditions, type Refusal } from './conditions.ts';
import type { Outage } from './outage-history.ts';

/** Hosts that a status names; `connectedHosts` counts them all. The schema's bound. */
const statusHostsMax = 64;

/** The schema's bounds of texts, in characters. */
const reasonLengthMax = 256;
const messageLengthMax = 1024;

/** Everything that a status is made from. */
export interface StatusInput {
  stats: CoreStats;
  /** `metadata.generation` that was last judged. */
  generation: number;
  /** Set when the state of that generation was refused; the former one is served. */
  refusal: Refusal | undefined;
  /** Name of the node, for messages that say where to look. */
  node: string;
  version: string;
  /** When the process was started. */
  startTime: Date;
  /** Conditions as last written: a condition that stays the same keeps its transition time. */
  previous: readonly Condition[];
  /** The last outages of a listener, newest first. */
  outagesOf: (listener: string) => readonly Outage[];
  now: Date;
}

/** Builds the whole status. */
export function buildStatus(input: StatusInput): NvmeofTargetNodeStatus {
  const { stats } = input;
  return {
    observedGeneration: input.generation,
    paths: stats.paths,
    version: input.version,
    specRevision: SPEC_REVISION,
    startTime: wholeSeconds(input.startTime.getTime()),
    conditions: buildConditions(input),
    listeners: stats.listeners.map((listener) => listenerStatus(listener, input.outagesOf(listener.name))),
    namespaces: stats.namespaces.map(namespaceStatus),
    connectedHosts: stats.hostsTotal,
    hosts: hostStatuses(stats),
  };
}

/**
 * The last word of a dataplane that leaves. A device that is away or broken stays so without it: the one thing that
 * is still known.
 */
export function buildFarewell(input: StatusInput, farewell: Silence): NvmeofTargetNodeStatus {
  const last = buildStatus(input);
  const silent = silentStatus(last, farewell, input.generation, input.now);
  const device = last.conditions?.find(({ type, status }) => type === 'DeviceHealthy' && status === 'False');
  if (device === undefined) return silent;
  const conditions = silent.conditions?.map((condition) =>
    condition.type === device.type ? device : condition,
  );
  return { ...silent, conditions };
}

/** The verdicts with their times: that of a condition moves only when its status does. */
function buildConditions(input: StatusInput): Condition[] {
  return Object.entries(judgeConditions(input)).map(([type, verdict]) => {
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

function listenerStatus(
  listener: ListenerStats,
  outages: readonly Outage[],
): NonNullable<NvmeofTargetNodeStatus['listeners']>[number] {
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
    ...(outages.length === 0 ? {} : { outages: [...outages] }),
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
  // Zero: the core does not know.
  return timeMs === 0 ? {} : ({ [name]: wholeSeconds(timeMs) } as Partial<Record<Name, string>>);
}

/** A time as the API keeps it. */
function wholeSeconds(timeMs: number): string {
  return `${new Date(timeMs).toISOString().slice(0, 19)}Z`;
}

/** A reason that the API accepts: one word. */
function conditionReason(reason: string): string {
  const word = reason.replaceAll(/[^A-Za-z0-9_]/g, '').replace(/^[^A-Za-z]+/, '');
  return word === '' ? 'Unknown' : clip(word, reasonLengthMax);
}

function clip(text: string, lengthMax: number): string {
  return text.length <= lengthMax ? text : `${text.slice(0, lengthMax - 1)}…`;
}
