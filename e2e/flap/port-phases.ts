/** The phases of a port, as the dataplane's log tells them. */
import { z } from 'zod';

const lineSchema = z.object({
  event: z.literal('portPhase'),
  timeMs: z.number(),
  to: z.string(),
  reason: z.string(),
  msg: z.string(),
});

/** A port entered a phase. */
export interface PhaseChange {
  /** Milliseconds, on the clock of whoever wrote the log. */
  readonly atMs: number;
  readonly phase: string;
  readonly reason: string;
  readonly message: string;
}

/** Finds the phase changes in log lines, with or without what a container runtime writes before them. */
export function parsePhaseChanges(lines: readonly string[]): PhaseChange[] {
  return lines.flatMap((line) => {
    const start = line.indexOf('{');
    if (start < 0 || !line.includes('"portPhase"')) return [];
    const parsed = lineSchema.safeParse(parseJson(line.slice(start)));
    if (!parsed.success) return [];
    const { timeMs, to, reason, msg } = parsed.data;
    return [{ atMs: timeMs, phase: to, reason, message: msg }];
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Milliseconds from `sinceMs` until the port was `Serving` and stayed so, by changes on the same clock;
 * `undefined` when it is not `Serving` in the end.
 */
export function servingAfter(changes: readonly PhaseChange[], sinceMs: number): number | undefined {
  let since: number | undefined;
  for (const { atMs, phase } of changes) {
    if (phase !== 'Serving') since = undefined;
    else since ??= atMs;
  }
  return since === undefined ? undefined : Math.max(0, since - sinceMs);
}
