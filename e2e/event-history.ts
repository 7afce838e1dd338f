/** What Events say about an object, for comparison with its conditions and metrics. */
import { z } from 'zod';

const eventSchema = z.object({
  reason: z.string(),
  type: z.string(),
  note: z.string().optional(),
  regarding: z.object({ kind: z.string(), uid: z.string().optional() }),
  series: z.object({ count: z.number() }).nullish(),
});

const eventListSchema = z.object({ items: z.array(eventSchema) });

/** How often things happened, by the reason of their Events. */
export type EventCounts = ReadonlyMap<string, number>;

/** Adds up what a list of Events (events.k8s.io/v1) says about one object. */
export function countEvents(list: unknown, uid: string): EventCounts {
  const counts = new Map<string, number>();
  for (const { reason, regarding, series } of eventListSchema.parse(list).items) {
    if (regarding.uid !== uid) continue;
    // The first time is the Event itself; a series counts all of them.
    counts.set(reason, (counts.get(reason) ?? 0) + (series?.count ?? 1));
  }
  return counts;
}

/** How often it was told that a link went down: one by one, or while it flapped. */
export function downsTold(counts: EventCounts): number {
  return (counts.get('LinkDown') ?? 0) + (counts.get('LinkFlapping') ?? 0);
}

/** The sequence without immediate repetitions. */
export function transitions(states: readonly string[]): string[] {
  return states.filter((state, index) => state !== states[index - 1]);
}
