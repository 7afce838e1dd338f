/** What the native core tells about itself: `weir_stats`. Counters count from the start of the process. */
import { z } from 'zod';
import { PATH_STATES, PORT_PHASES } from '../../crds/nvmeof-target-node.ts';

/** A count that only grows, or a number of things; the core's 64-bit values stay far below 2^53. */
const count = z.number().nonnegative();

/** Unix time in milliseconds. */
const timeMs = z.number().nonnegative();

const histogramSchema = z
  .object({
    /** Upper bounds of all buckets but the last, ascending. */
    boundsSeconds: z.array(z.number()),
    /** Observations in each bucket (not cumulative); one more than bounds, the last is unbounded. */
    counts: z.array(count),
    sumSeconds: z.number().nonnegative(),
    count: count,
  })
  .refine((histogram) => histogram.counts.length === histogram.boundsSeconds.length + 1, {
    message: 'a histogram has one count more than bounds',
  });

const listenerStatsSchema = z.object({
  name: z.string(),
  address: z.string().nullable(),
  port: z.number(),
  device: z.string().nullable(),
  netdev: z.string().nullable(),
  linkUp: z.boolean(),
  phase: z.enum(PORT_PHASES),
  epoch: count,
  /** Since when the port is in this phase. */
  sinceMs: timeMs,
  reason: z.string(),
  message: z.string(),
  linkTransitions: z.object({ up: count, down: count }),
  drains: z.object({ completed: count, timedOut: count }),
  drainDuration: histogramSchema,
  recoveryDuration: histogramSchema,
  queuePairs: z.object({ active: count, draining: count, quarantined: count }),
  memoryRegions: count,
  memoryRegisteredBytes: count,
  memoryRegistrations: z.object({ succeeded: count, failed: count }),
  deviceFatal: count,
  asyncEvents: z.record(z.string(), count),
  staleCompletions: count,
  connectsRejected: z.record(z.string(), count),
  buffers: z.object({ free: count, used: count, quarantined: count }),
  verbsObjects: z.record(z.string(), count),
});

/** States of a namespace; one that was removed is not shown. */
export const namespaceStates = ['Opening', 'Ready', 'Failed'] as const;

const namespaceStatsSchema = z.object({
  subsystem: z.string(),
  nsid: z.number(),
  uuid: z.string(),
  state: z.enum(namespaceStates),
  reason: z.string(),
  message: z.string(),
  sizeBytes: count,
  volatile: z.boolean(),
});

const hostStatsSchema = z.object({
  subsystem: z.string(),
  hostNqn: z.string(),
  controllerId: z.number(),
  listener: z.string(),
  source: z.string(),
  /** Queues, the admin queue included. */
  queues: count,
  /** Since when the host is connected. */
  sinceMs: timeMs,
  /** Connected to the discovery subsystem. */
  discovery: z.boolean(),
});

/** Kinds of command that are counted and timed. */
export const operationNames = [
  'read',
  'write',
  'flush',
  'writeZeroes',
  'deallocate',
  'compare',
  'admin',
  'fabrics',
] as const;

const operationStatsSchema = z.object({ count, bytes: count, duration: histogramSchema });

/** Everything that the core tells at one moment. */
export const coreStatsSchema = z.object({
  /** Generation of the desired state that is served; 0 before the first. */
  generation: count,
  state: z.enum(['Running', 'Draining', 'Drained']),
  /** Whether hosts may use the paths through this node, and whether all know when they may not. */
  paths: z.enum(PATH_STATES),
  listeners: z.array(listenerStatsSchema),
  namespaces: z.array(namespaceStatsSchema),
  /** Connected hosts, bounded by the core. */
  hosts: z.array(hostStatsSchema),
  /** All connected hosts. */
  hostsTotal: count,
  operations: z.record(z.enum(operationNames), operationStatsSchema),
  /** Commands answered with an error, by NVMe status. */
  errors: z.record(z.string(), count),
  keepAliveTimeouts: count,
  authenticationFailures: count,
  /** Hosts that are refused because their keys cannot be used; absent from cores that know no authentication. */
  authenticationProblems: z
    .array(z.object({ subsystem: z.string(), hostNqn: z.string(), message: z.string() }))
    .default([]),
  pollers: z.array(
    z.object({
      index: count,
      busyRatio: z.number(),
      polls: count,
      sleeps: count,
      sendWorkRequests: count,
      doorbells: count,
    }),
  ),
  /** RDMA objects whose destruction the kernel refused: kept for ever. A bug or a dead device. */
  verbsObjects: z.object({ leaked: count }),
  /** Events lost because nobody took them in time. */
  eventRingDropped: count,
});

/** Everything that the core tells at one moment. */
export type CoreStats = z.output<typeof coreStatsSchema>;
/** One listener's part of {@link CoreStats}. */
export type ListenerStats = CoreStats['listeners'][number];
/** One namespace's part of {@link CoreStats}. */
export type NamespaceStats = CoreStats['namespaces'][number];
/** A distribution of durations. */
export type DurationHistogram = z.output<typeof histogramSchema>;
