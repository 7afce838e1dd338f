/** Events: what happened to an object, once per change; repetitions are counted on the Event that is there. */
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import type { Api } from './api-client.ts';
import { isNotFound } from './api-error.ts';
import { microTime } from './micro-time.ts';
import type { KubernetesObject } from './object.ts';
import { apiVersionOf, listPath, objectPath, RESOURCES, type Resource } from './resource.ts';

/** One thing that happened. */
export interface EventDetails {
  readonly type: 'Normal' | 'Warning';
  /** Why, in one CamelCase word. */
  readonly reason: string;
  /** What was done or is to be done, in one CamelCase word. */
  readonly action: string;
  readonly note: string;
  /** Tells repetitions from news, with type and reason. Default: the note. */
  readonly subject?: string;
}

/** Longest note that the API takes. */
const NOTE_LENGTH_MAX = 1024;

/** The same thing within this time is counted on the first Event. */
const SERIES_MS = 10 * 60 * 1000;

/** Events remembered for counting; the oldest are forgotten first. */
const REMEMBERED_MAX = 2048;

const CONTROLLER_NAME = 'weir.dev/operator';

interface Remembered {
  readonly name: string;
  readonly namespace: string;
  count: number;
  readonly firstMs: number;
}

/** Writes Events. Failures are logged and end there: an Event is never worth failing a reconcile. */
export class EventRecorder {
  readonly #api: Api;
  readonly #logger: Logger;
  readonly #remembered = new Map<string, Remembered>();
  #sequence = 0;

  constructor(api: Api, logger: Logger) {
    this.#api = api;
    this.#logger = logger;
  }

  /** Says that something happened to an object. */
  async record(resource: Resource, object: KubernetesObject, details: EventDetails): Promise<void> {
    const subject = details.subject ?? details.note;
    const key = [object.metadata.uid, details.type, details.reason, subject].join('\0');
    try {
      const known = this.#remembered.get(key);
      if (known !== undefined && Date.now() - known.firstMs < SERIES_MS && (await this.#count(known))) return;
      await this.#create(key, resource, object, details);
    } catch (error) {
      this.#logger.warn({ err: error, reason: details.reason }, 'could not write an Event');
    }
  }

  async #count(known: Remembered): Promise<boolean> {
    known.count += 1;
    const series = { count: known.count, lastObservedTime: microTime(new Date()) };
    try {
      await this.#api.mergePatch(objectPath(RESOURCES.events, known), { series });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  async #create(
    key: string,
    resource: Resource,
    object: KubernetesObject,
    details: EventDetails,
  ): Promise<void> {
    const namespace = object.metadata.namespace ?? 'default';
    const now = new Date();
    this.#sequence += 1;
    const name = `${object.metadata.name.slice(0, 200)}.${now.getTime().toString(16)}${this.#sequence.toString(16)}`;
    await this.#api.create(listPath(RESOURCES.events, namespace), {
      apiVersion: apiVersionOf(RESOURCES.events),
      kind: 'Event',
      metadata: { name, namespace },
      eventTime: microTime(now),
      reportingController: CONTROLLER_NAME,
      reportingInstance: hostname().slice(0, 128),
      action: details.action,
      reason: details.reason,
      type: details.type,
      note: details.note.slice(0, NOTE_LENGTH_MAX),
      regarding: {
        apiVersion: apiVersionOf(resource),
        kind: resource.kind,
        name: object.metadata.name,
        namespace: object.metadata.namespace,
        uid: object.metadata.uid,
        resourceVersion: object.metadata.resourceVersion,
      },
    });
    this.#remembered.set(key, { name, namespace, count: 1, firstMs: now.getTime() });
    const oldest = this.#remembered.keys().next();
    if (this.#remembered.size > REMEMBERED_MAX && oldest.done !== true) this.#remembered.delete(oldest.value);
  }
}
