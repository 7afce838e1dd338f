/**
 * What the status of an NvmeofTargetNode says while no dataplane reports. One form for both who write it: the
 * dataplane as its last word, and the operator in its place when it ended without one.
 */
import type { Condition } from './condition.ts';
import { NODE_CONDITIONS } from './condition-reasons.ts';
import type { NvmeofTargetNodeStatus } from './nvmeof-target-node.ts';

/** Why nothing is known of a node. */
export interface Silence {
  /** One CamelCase word. */
  readonly reason: string;
  /** For people: what happened, and what happens next. */
  readonly message: string;
  /** Whether the hosts that were reported last may still be connected: nobody can say that they are not. */
  readonly mayServe?: boolean;
}

/**
 * The status that nobody stands for any more: every condition `Unknown`, every port and namespace too, no hosts. What
 * does not change when a process ends stays: addresses, devices, UUIDs, past outages.
 */
export function silentStatus(
  last: NvmeofTargetNodeStatus | undefined,
  silence: Silence,
  generation: number,
  now: Date,
): NvmeofTargetNodeStatus {
  const { reason, message } = silence;
  const hosts = silence.mayServe === true ? last?.hosts : undefined;
  return {
    observedGeneration: last?.observedGeneration ?? 0,
    ...(last?.version === undefined ? {} : { version: last.version }),
    conditions: Object.keys(NODE_CONDITIONS).map((type) => {
      const before = last?.conditions?.find((condition) => condition.type === type);
      return {
        type,
        status: 'Unknown',
        observedGeneration: generation,
        lastTransitionTime: before?.status === 'Unknown' ? before.lastTransitionTime : seconds(now),
        reason,
        message,
      } satisfies Condition;
    }),
    listeners: (last?.listeners ?? []).map(({ name, address, port, device, netdev, outages }) => ({
      name,
      ...(address === undefined ? {} : { address }),
      ...(port === undefined ? {} : { port }),
      ...(device === undefined ? {} : { device }),
      ...(netdev === undefined ? {} : { netdev }),
      phase: 'Unknown' as const,
      epoch: 0,
      memoryRegions: 0,
      reason,
      ...(outages === undefined ? {} : { outages }),
    })),
    namespaces: (last?.namespaces ?? []).map(({ subsystem, nsid, uuid, sizeBytes, volatile }) => ({
      subsystem,
      nsid,
      ...(uuid === undefined ? {} : { uuid }),
      state: 'Unknown' as const,
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
      ...(volatile === undefined ? {} : { volatile }),
    })),
    connectedHosts: silence.mayServe === true ? (last?.connectedHosts ?? 0) : 0,
    hosts: hosts ?? [],
  };
}

/** Whole seconds: all that the API keeps. */
function seconds(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`;
}
