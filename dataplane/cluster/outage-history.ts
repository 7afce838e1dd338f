/** What each listener's last outages were: kept in the status, so that it outlives Events and the process. */
import type { NvmeofTargetNodeStatus } from '../../crds/nvmeof-target-node.ts';
import type { CoreEvent } from '../core/events.ts';

type ListenerStatus = NonNullable<NvmeofTargetNodeStatus['listeners']>[number];

/** A time in which no host could be served by a listener; without `endTime` it goes on. */
export type Outage = NonNullable<ListenerStatus['outages']>[number];

/** Outages that are kept of each listener. The schema's bound. */
const OUTAGES_MAX = 16;

/** The schema's bounds of texts, in characters. */
const REASON_LENGTH_MAX = 256;
const MESSAGE_LENGTH_MAX = 1024;

const SERVING: ReadonlySet<string> = new Set(['Serving', 'Degraded']);
/** Connections still stand: what ends here without a drain was no outage. */
const HOLDING = 'Holding';

/** What of a status the history goes on from. */
export type ReportedStatus = Pick<NvmeofTargetNodeStatus, 'conditions' | 'listeners'>;

/** See the head of this file. */
export class OutageHistory {
  /** By listener, newest first. */
  readonly #outages = new Map<string, readonly Outage[]>();
  /** Listeners that hold, and since when (Unix milliseconds). */
  readonly #holdingSince = new Map<string, number>();

  /**
   * Goes on from what the last process reported: for every listener that it had, the change of process is an outage,
   * from its last word on, or else from this process's start.
   */
  restore(status: ReportedStatus, startTime: Date): void {
    const ready = status.conditions?.find(({ type }) => type === 'Ready');
    const since = ready?.status === 'Unknown' ? ready.lastTransitionTime : startTime.toISOString();
    for (const { name, outages = [] } of status.listeners ?? []) {
      if (this.#outages.has(name)) continue;
      const [newest] = outages;
      const goesOn = newest !== undefined && newest.endTime === undefined;
      this.#outages.set(
        name,
        goesOn ? outages : [{ startTime: since, reason: 'DataplaneRestarted' }, ...outages],
      );
    }
  }

  /** Learns of the phases of ports. */
  observe({ known, timeMs }: CoreEvent): void {
    if (known?.type !== 'portPhase') return;
    const { listener, from, to, reason, message } = known;
    if (SERVING.has(to)) this.#end(listener, timeMs);
    else if (to === HOLDING) this.#holdingSince.set(listener, timeMs);
    else if (SERVING.has(from) || from === HOLDING) {
      this.#begin(listener, this.#holdingSince.get(listener) ?? timeMs, { reason, message });
    }
    if (to !== HOLDING) this.#holdingSince.delete(listener);
  }

  /** The last outages of a listener, newest first. */
  of(listener: string): readonly Outage[] {
    return (this.#outages.get(listener) ?? []).slice(0, OUTAGES_MAX);
  }

  #begin(listener: string, timeMs: number, why: { reason: string; message: string }): void {
    const [newest, ...older] = this.of(listener);
    // One that goes on is the same: a process that began, and met a link that was down.
    if (newest !== undefined && newest.endTime === undefined) return;
    const outage: Outage = {
      startTime: new Date(timeMs).toISOString(),
      reason: why.reason.slice(0, REASON_LENGTH_MAX),
      ...(why.message === '' ? {} : { message: why.message.slice(0, MESSAGE_LENGTH_MAX) }),
    };
    const before = newest === undefined ? older : [newest, ...older];
    this.#outages.set(listener, [outage, ...before].slice(0, OUTAGES_MAX));
  }

  #end(listener: string, timeMs: number): void {
    const [newest, ...older] = this.of(listener);
    if (newest === undefined || newest.endTime !== undefined) return;
    this.#outages.set(listener, [{ ...newest, endTime: new Date(timeMs).toISOString() }, ...older]);
  }
}
