import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type { Api } from '../../operator/kubernetes/api-client.ts';
import { microTime } from '../../operator/kubernetes/micro-time.ts';
import type { KubernetesObject } from '../../operator/kubernetes/object.ts';
import { apiVersionOf, listPath, objectPath, RESOURCES } from '../../operator/kubernetes/resource.ts';
import type { CoreEvent } from '../core/events.ts';

/** Shortest time between two writes about the same thing; what happens meanwhile is counted. */
const writeIntervalMilliseconds = 10_000;

/** After this time without a repetition the same thing is a new Event. */
const seriesEndMilliseconds = 15 * 60 * 1000;

/** Kinds of things that are told at the same time; more than a node with 16 listeners has. */
const seriesMax = 256;

/** The API's limit of an Event's note, in characters. */
const noteLengthMax = 1024;

/** Something that a person should see at the object. */
export interface Report {
  type: 'Normal' | 'Warning';
  /** CamelCase. */
  reason: string;
  /** What it is about: with the reason it tells repetitions from news. */
  subject: string;
  note: string;
  /** What was done; CamelCase. */
  action: string;
}

/** What the core reports, as Kubernetes Events tell it; `undefined` for what is not worth one. */
export function reportOf(event: CoreEvent): Report | undefined {
  const known = event.known;
  switch (known?.type) {
    case 'linkState':
      return {
        type: known.up ? 'Normal' : 'Warning',
        reason: known.up ? 'LinkUp' : 'LinkDown',
        subject: known.listener,
        note: `listener ${known.listener}: link ${known.netdev} is ${known.up ? 'up' : 'down'}`,
        action: 'Watch',
      };
    case 'portPhase': {
      const reasons = { Serving: 'ListenerServing', Degraded: 'ListenerDegraded', Failed: 'ListenerFailed' };
      const reason = (reasons as Partial<Record<string, string>>)[known.to];
      if (reason === undefined) return undefined;
      const why = known.message === '' ? known.reason : known.message;
      const at = known.address == null ? '' : ` at ${known.address}`;
      return {
        type: known.to === 'Serving' ? 'Normal' : 'Warning',
        reason,
        subject: known.listener,
        note: `listener ${known.listener} is ${known.to}${at}${why === '' ? '' : `: ${why}`}`,
        action: 'Serve',
      };
    }
    case 'drainFinished':
      if (known.result === 'completed') return undefined;
      return {
        type: 'Warning',
        reason: 'DrainTimedOut',
        subject: known.listener,
        note: `listener ${known.listener}: work was still in flight after ${known.durationMs} ms; its buffers are kept aside until it ends`,
        action: 'Drain',
      };
    case 'memoryRegistration':
      if (known.result === 'succeeded') return undefined;
      return {
        type: 'Warning',
        reason: 'MemoryRegistrationFailed',
        subject: known.listener,
        note: `listener ${known.listener}: ${known.message}`,
        action: 'RegisterMemory',
      };
    case 'namespaceState':
      // One that is served as it was, although something else was asked for, is an error too.
      if (event.level !== 'error') return undefined;
      return {
        type: 'Warning',
        reason: known.state === 'Failed' ? 'NamespaceFailed' : 'NamespaceUnchanged',
        subject: `${known.subsystem}/${known.nsid}`,
        note: `namespace ${known.nsid} of ${known.subsystem}: ${known.message || known.reason}`,
        action: 'OpenNamespace',
      };
    case 'deviceFatal':
      return {
        type: 'Warning',
        reason: 'DeviceFatal',
        subject: known.device,
        note: `RDMA device ${known.device}: ${known.message}`,
        action: 'Serve',
      };
    case 'applyProblem':
      return {
        type: 'Warning',
        reason: known.reason === '' ? 'ApplyProblem' : known.reason,
        subject: known.field,
        note: `${known.field}: ${known.message}`,
        action: 'Apply',
      };
    default:
      return undefined;
  }
}

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
 * ten seconds: a link that flaps all day is two Events. Lossy on purpose: an API server that is away, or that says
 * no, costs Events and nothing else.
 */
export class EventReporter {
  readonly #api: Api;
  readonly #where: { namespace: string; node: string };
  readonly #logger: Logger;
  readonly #series = new Map<string, Series>();
  readonly #waiting: Report[] = [];
  readonly #timer: NodeJS.Timeout;
  #object: KubernetesObject | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(api: Api, where: { namespace: string; node: string }, logger: Logger) {
    this.#api = api;
    this.#where = where;
    this.#logger = logger;
    this.#timer = setInterval(() => this.#writeDue(Date.now(), false), writeIntervalMilliseconds);
    this.#timer.unref();
  }

  /** The object that Events are about; nothing is written before it is known. */
  setObject(object: KubernetesObject | undefined): void {
    this.#object = object;
    if (object !== undefined) for (const report of this.#waiting.splice(0)) this.report(report);
  }

  /** Takes note of an event of the core. */
  observe(event: CoreEvent): void {
    const report = reportOf(event);
    if (report !== undefined) this.report(report);
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
      known.report = report;
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

  #writeDue(now: number, all: boolean): void {
    for (const series of this.#series.values()) {
      if (series.count === series.writtenCount) continue;
      if (!all && now - series.writtenAtMs < writeIntervalMilliseconds) continue;
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
      const message = error instanceof Error ? error.message : String(error);
      this.#logger.debug({ reason: series.report.reason }, `Event not written: ${message}`);
    }
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
