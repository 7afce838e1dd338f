import type { CoreEvent } from '../core/events.ts';

/** Results of a drain. */
const results = ['completed', 'timedOut'] as const;

type Result = (typeof results)[number];

/** By far the most common reason. */
const usualReason = 'LinkDown';

/** Drains whose events were lost (the ring overflowed): counted, so that the sum stays true. */
const unknownReason = 'Unknown';

/** Every reason that is known: their series exist with 0 from the start, so that the first drain is an increase. */
const knownReasons = [
  usualReason,
  'AddressChanged',
  'AddressNotFound',
  'DeviceFatal',
  'DeviceNotFound',
  'DeviceRemoved',
  'InterfaceNotFound',
  'ListenerRemoved',
  'ManagementQueuePairDead',
  'MtuReduced',
  'NoRdmaDevice',
  'PollersChanging',
  'QueueError',
  'RdmaUnavailable',
  'SettingsChanged',
  'ShuttingDown',
  unknownReason,
] as const;

/**
 * Reasons of the core that say how it came to a drain, and not why: a link that was down for longer than the hold
 * time is as much a link that went down as one without a hold time.
 */
const causes: Readonly<Record<string, string>> = { HoldTimeOver: usualReason };

/**
 * Splits the core's totals of drains by reason. The totals come from its statistics, the reasons from its events:
 * a port says why when it begins to drain, and how it went when it has drained.
 */
export class DrainReasons {
  readonly #current = new Map<string, string>();
  readonly #counts = new Map<string, Map<string, Record<Result, number>>>();

  /** Takes note of an event of the core. */
  observe(event: CoreEvent): void {
    const known = event.known;
    if (known?.type === 'portPhase' && known.to === 'Draining') {
      this.#current.set(known.listener, causes[known.reason] ?? known.reason);
    } else if (known?.type === 'drainFinished') {
      const reason = this.#current.get(known.listener) || unknownReason;
      this.#countsOf(known.listener, reason)[known.result] += 1;
    }
  }

  /** Every reason seen on a listener with its counts; they add up to `totals`. */
  split(
    listener: string,
    totals: Record<Result, number>,
  ): { reason: string; result: Result; count: number }[] {
    for (const reason of knownReasons) this.#countsOf(listener, reason);
    const reasons = [...(this.#counts.get(listener) ?? [])];
    const rows: { reason: string; result: Result; count: number }[] = [];
    for (const result of results) {
      let attributed = 0;
      for (const [reason, counts] of reasons) {
        if (reason === unknownReason) continue;
        attributed += counts[result];
        rows.push({ reason, result, count: counts[result] });
      }
      rows.push({ reason: unknownReason, result, count: Math.max(0, totals[result] - attributed) });
    }
    return rows;
  }

  #countsOf(listener: string, reason: string): Record<Result, number> {
    const ofListener = this.#counts.get(listener) ?? new Map<string, Record<Result, number>>();
    this.#counts.set(listener, ofListener);
    const counts = ofListener.get(reason) ?? { completed: 0, timedOut: 0 };
    ofListener.set(reason, counts);
    return counts;
  }
}
