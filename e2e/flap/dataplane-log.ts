/** What the dataplane's log says of its port and its hosts. */
import { z } from 'zod';

const lineSchema = z.looseObject({
  event: z.string(),
  timeMs: z.number(),
  msg: z.string(),
  /** Of `portPhase`. */
  to: z.string().optional(),
  /** Of `portPhase` and `hostDisconnected`. */
  reason: z.string().nullish(),
});
/** An event of the core, as the log has it; `timeMs` is on the clock of the node. */
export type LoggedEvent = z.output<typeof lineSchema>;

/** Finds the core's events in log lines, with or without what a container runtime writes before them, by time. */
export function parseEvents(lines: readonly string[]): LoggedEvent[] {
  return lines
    .flatMap((line) => {
      const start = line.indexOf('{');
      if (start < 0 || !line.includes('"event"')) return [];
      const parsed = lineSchema.safeParse(parseJson(line.slice(start)));
      return parsed.success ? [parsed.data] : [];
    })
    .sort((a, b) => a.timeMs - b.timeMs);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The phase that the port is in after these events, if they tell. */
export function lastPhase(events: readonly LoggedEvent[]): LoggedEvent | undefined {
  return events.findLast(({ event }) => event === 'portPhase');
}

/**
 * Milliseconds from `sinceMs` until the port was `Serving` and stayed so; `undefined` when it is not `Serving` in the
 * end.
 */
export function servingAfter(events: readonly LoggedEvent[], sinceMs: number): number | undefined {
  let since: number | undefined;
  for (const { event, to, timeMs } of events) {
    if (event !== 'portPhase') continue;
    if (to !== 'Serving') since = undefined;
    else since ??= timeMs;
  }
  return since === undefined ? undefined : Math.max(0, since - sinceMs);
}

/** Whether a queue pair of a host failed by itself since then: its connection could not survive. */
export function queuePairFailed(events: readonly LoggedEvent[], sinceMs: number): boolean {
  return events.some(
    ({ event, reason, timeMs }) =>
      event === 'hostDisconnected' && reason === 'TransportError' && timeMs >= sinceMs,
  );
}
