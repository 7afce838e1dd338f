/** What the native core reports as it happens: JSON lines taken with `weir_take_events`. */
import { z } from 'zod';

const text = z.string();
const number = z.number();

/** Every event has these; one of a type that this version does not know has more. */
const eventBaseSchema = z.looseObject({
  /** Counts events from 1; a gap means that the ring overflowed. */
  seq: number,
  /** Unix time in milliseconds. */
  timeMs: number,
  level: z.enum(['info', 'warning', 'error']),
  type: text,
});

function event<T extends string, Shape extends z.ZodRawShape>(type: T, shape: Shape) {
  return z.looseObject({ ...eventBaseSchema.shape, type: z.literal(type), ...shape });
}

const maybe = text.nullish();

const knownEventSchema = z.discriminatedUnion('type', [
  event('applied', { generation: number }),
  event('applyProblem', { generation: number, field: text, reason: text, message: text }),
  event('portPhase', {
    listener: text,
    address: maybe,
    device: maybe,
    netdev: maybe,
    from: text,
    to: text,
    epoch: number,
    reason: text,
    message: text,
  }),
  event('pathsChanged', { from: text, to: text }),
  event('linkState', { listener: text, netdev: text, up: z.boolean() }),
  event('hostConnected', {
    subsystem: text,
    hostNqn: text,
    controllerId: number,
    listener: text,
    source: text,
    discovery: z.boolean(),
  }),
  event('hostDisconnected', {
    subsystem: text,
    hostNqn: text,
    controllerId: number,
    listener: text,
    source: text,
    discovery: z.boolean(),
    reason: maybe,
  }),
  event('connectRejected', { reason: text, source: text, hostNqn: maybe, subsystem: maybe }),
  event('namespaceState', {
    subsystem: text,
    nsid: number,
    state: text,
    reason: text,
    message: text,
    uuid: text,
    sizeBytes: number,
  }),
  event('memoryRegistration', { listener: text, result: text, message: text }),
  event('drainFinished', {
    listener: text,
    epoch: number,
    result: z.enum(['completed', 'timedOut']),
    durationMs: number,
    queuePairs: number,
  }),
  event('deviceFatal', { device: text, message: text }),
  event('queuePairQuarantined', {
    listener: text,
    source: text,
    queueId: number,
    workRequests: number,
    backendIos: number,
    message: text,
  }),
  event('softDeviceRecreation', {
    device: text,
    netdev: text,
    result: z.enum(['requested', 'refused', 'succeeded', 'failed']),
    message: text,
  }),
  event('backendError', { subsystem: text, nsid: number, errno: number }),
  event('drained', { result: text }),
  event('fatal', { message: text, exitCode: number }),
]);

/** An event of a known type. */
export type KnownCoreEvent = z.output<typeof knownEventSchema>;

/** An event of the core; `known` is absent for types that this version of the dataplane does not know. */
export interface CoreEvent {
  seq: number;
  timeMs: number;
  level: 'info' | 'warning' | 'error';
  type: string;
  /** The line as the core wrote it. */
  fields: Readonly<Record<string, unknown>>;
  /** The same, checked, to be told apart by `type`. */
  known?: KnownCoreEvent;
}

/** Reads one event line. A line that is no event becomes an error event, so that it is seen, not lost. */
export function parseEventLine(line: string): CoreEvent {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return unreadable(line);
  }
  const base = eventBaseSchema.safeParse(value);
  if (!base.success) return unreadable(line);
  const { seq, timeMs, level, type } = base.data;
  const known = knownEventSchema.safeParse(value);
  const parsed: CoreEvent = { seq, timeMs, level, type, fields: base.data };
  return known.success ? { ...parsed, known: known.data } : parsed;
}

function unreadable(line: string): CoreEvent {
  return {
    seq: 0,
    timeMs: Date.now(),
    level: 'error',
    type: 'unreadableEvent',
    fields: { line: line.slice(0, 1000) },
  };
}
