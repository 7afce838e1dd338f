import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type { Api } from '../../operator/kubernetes/api-client.ts';
import { isNotFound } from '../../operator/kubernetes/api-error.ts';
import { microTime } from '../../operator/kubernetes/micro-time.ts';
import type { KubernetesObject } from '../../operator/kubernetes/object.ts';
import { apiVersionOf, listPath, objectPath, RESOURCES } from '../../operator/kubernetes/resource.ts';
import type { CoreEvent } from '../core/events.ts';
import { EventStory, type Report } from './event-story.ts';
import { TokenBucket } from './token-bucket.ts';

/** Shortest time between two writes about the same thing; what happens meanwhile is counted. */
const writeIntervalMilliseconds = 10_000;

/** After this time without a repetition the same thing is a new Event. */
const seriesEndMilliseconds = 15 * 60 * 1000;

/** Kinds of things that are told at the same time; more than a node with 16 listeners has. */
const seriesMax = 256;

/** Writes at once, whatever they are about… */
const writeBurst = 30;

/** …and after that one in this time: sixteen listeners that all flap are no load on the API server either. */
const millisecondsPerWrite = 2000;

/** The API's limit of an Event's note, in characters. */
const noteLengthMax = 1024;

/** One Event object and how often it was meant. */
interface Series {
  name: string;
  report: Report;
  count: number;
  firstTime: string;
  lastTimeMs: number;
  writtenCount: number;
  writtenAtMs: number;
}

/**
 * Writes Events about the dataplane's own object. Repetitions become one Event with a count, written at most every
 * ten seconds, and all Events together at a bounded rate. An API server that is away gets them later, with the time
 * at which things happened; one that says no costs Events and nothing else.
 */
export class EventReporter {
  readonly #api: Api;
  readonly #where: { namespace: string; node: string };
  readonly #logger: Logger;
  readonly #series = new Map<string, Series>();
  readonly #waiting: Report[] = [];
  readonly #story = new EventStory();
  readonly #writes = new TokenBucket(writeBurst, millisecondsPerWrite);
  readonly #timer: NodeJS.Timeout;
  #object: KubernetesObject | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(api: Api, where: { namespace: string; node: string }, logger: Logger) {
    this.#api = api;
    this.#where = where;
    this.#logger = logger;
    this.#timer = setInterval(() => this.#tick(), writeIntervalMilliseconds);
    this.#timer.unref();
  }

  /** The object that Events are about; nothing is written before it is known. */
  setObject(object: KubernetesObject | undefined): void {
    this.#object = object;
    if (object !== undefined) for (const report of this.#waiting.splice(0)) this.report(report);
  }

  /** Takes note of an event of the core. */
  observe(event: CoreEvent): void {
    for (const report of this.#story.tell(event, Date.now())) this.report(report);
  }

  /** Reports something now or, if it is a repetition, with the next count. */
  report(report: Report): void {
    if (this.#object === undefined) {
      if (this.#waiting.length < seriesMax) this.#waiting.push(report);
      return;
    }
    const now = Date.now();
    const key = `${report.reason}/${report.subject}`;
    const known = this.#series.get(key);
    if (known !== undefined && now - known.lastTimeMs < seriesEndMilliseconds) {
      known.count += 1;
      known.lastTimeMs = now;
    } else {
      if (this.#series.size >= seriesMax) this.#forgetOldest();
      this.#series.set(key, {
        name: `${this.#object.metadata.name.slice(0, 200)}.${randomBytes(8).toString('hex')}`,
        report,
        count: 1,
        firstTime: microTime(new Date(now)),
        lastTimeMs: now,
        writtenCount: 0,
        writtenAtMs: 0,
      });
    }
    this.#writeDue(now, false);
  }

  /** Writes what was not written yet, and no more after that. Resolves in any case. */
  async flush(): Promise<void> {
    clearInterval(this.#timer);
    this.#writeDue(Date.now(), true);
    await this.#writing;
  }

  #tick(): void {
    const now = Date.now();
    for (const report of this.#story.tick(now)) this.report(report);
    this.#writeDue(now, false);
  }

  #writeDue(now: number, all: boolean): void {
    const due = [...this.#series.values()].filter(
      ({ count, writtenCount, writtenAtMs }) =>
        count !== writtenCount && (all || now - writtenAtMs >= writeIntervalMilliseconds),
    );
    // Those that waited longest first: what is new has waited for ever.
    for (const series of due.toSorted((a, b) => a.writtenAtMs - b.writtenAtMs)) {
      if (!all && !this.#writes.take(now)) return;
      const first = series.writtenCount === 0;
      series.writtenCount = series.count;
      series.writtenAtMs = now;
      // One after the other: an Event's count must follow its creation.
      this.#writing = this.#writing.then(() => this.#write(series, first));
    }
  }

  async #write(series: Series, first: boolean): Promise<void> {
    const resource = RESOURCES.events;
    const id = { namespace: this.#where.namespace, name: series.name };
    const repetition =
      series.count > 1
        ? { series: { count: series.count, lastObservedTime: microTime(new Date(series.lastTimeMs)) } }
        : {};
    try {
      if (first) {
        await this.#api.create(listPath(resource, this.#where.namespace), {
          apiVersion: apiVersionOf(resource),
          kind: resource.kind,
          metadata: id,
          eventTime: series.firstTime,
          type: series.report.type,
          reason: series.report.reason,
          action: series.report.action,
          note: clip(series.report.note),
          regarding: this.#regarding(),
          reportingController: 'weir.dev/dataplane',
          reportingInstance: this.#where.node || 'weir-dataplane',
          ...repetition,
        });
      } else {
        // All but the series of an Event is immutable.
        await this.#api.mergePatch(objectPath(resource, id), repetition);
      }
    } catch (error) {
      this.#failed(series, first, error);
    }
  }

  /** Leaves it to the next turn, for as long as the Event would have counted repetitions. */
  #failed(series: Series, first: boolean, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.#logger.debug({ reason: series.report.reason }, `Event not written: ${message}`);
    if (Date.now() - series.lastTimeMs >= seriesEndMilliseconds) return;
    // Events live for an hour: one that is gone meanwhile is made anew, with its count.
    const make = first || isNotFound(error);
    series.writtenCount = make ? 0 : series.writtenCount - 1;
  }

  #regarding(): Record<string, string | undefined> {
    const resource = RESOURCES.targetNodes;
    const metadata = this.#object?.metadata;
    return {
      apiVersion: apiVersionOf(resource),
      kind: resource.kind,
      namespace: this.#where.namespace,
      name: metadata?.name,
      uid: metadata?.uid,
      resourceVersion: metadata?.resourceVersion,
    };
  }

  #forgetOldest(): void {
    const oldest = [...this.#series].toSorted(([, a], [, b]) => a.lastTimeMs - b.lastTimeMs)[0];
    if (oldest !== undefined) this.#series.delete(oldest[0]);
  }
}

function clip(text: string): string {
  return text.length <= noteLengthMax ? text : `${text.slice(0, noteLengthMax - 1)}…`;
}
