/**
 * Keeps a copy of a resource's objects in memory: list in pages, then watch with bookmarks. It never gives up: every
 * end of a watch is followed by another one, after a jittered wait when it ended badly.
 */
import type { Logger } from 'pino';
import type { Api, Query } from './api-client.ts';
import { ApiError, isExpired, isNotFound } from './api-error.ts';
import { type BackoffLimits, fullJitter, type Random, sleep } from './backoff.ts';
import { type KubernetesObject, objectKey } from './object.ts';
import { listPath, type Resource } from './resource.ts';

const PAGE_SIZE = 500;

/** The server ends a watch after this time, plus up to as much again, so that watches do not end together. */
const WATCH_TIMEOUT_SECONDS = 300;

/** Bookmarks arrive about once a minute: a watch that is silent for longer is dead, whatever TCP says. */
const INACTIVITY_TIMEOUT_MS = 70_000;

const BACKOFF: BackoffLimits = { baseMilliseconds: 400, maxMilliseconds: 30_000 };

/** After so many failures in a row the fault may lie in the version (a restored etcd): list again. */
const FAILURES_BEFORE_LIST = 5;

/** A resync is spread over its time in so many steps: handed over all at once, objects would hold up those that change. */
const RESYNC_STEPS = 60;

/** Why a watch began anew. */
export type RestartReason = 'timeout' | 'closed' | 'expired' | 'inactive' | 'error';

/** Told about a watch's life; metrics listen. */
export interface WatchObserver {
  eventSeen(resource: string): void;
  restarted(resource: string, reason: RestartReason): void;
  /** How many objects cannot be read, whenever that changes. */
  unreadable(resource: string, objects: number): void;
}

/** Called with an object after it changed (`undefined` when it is gone) and as it was before. Must only note it. */
export type ChangeHandler<T> = (current: T | undefined, previous: T | undefined) => void;

/** What a reflector reads, and whom it tells. */
export interface ReflectorOptions<T extends KubernetesObject> {
  readonly api: Api;
  readonly resource: Resource;
  /** Takes what is needed of an object; throws when it cannot be read. */
  readonly parse: (raw: unknown) => T;
  readonly onChange: ChangeHandler<T>;
  /** Only this namespace; all of them when absent. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** Group by which objects are looked up together, e.g. the target that a pod belongs to. */
  readonly groupOf?: (object: T) => string | undefined;
  readonly logger: Logger;
  readonly observer?: WatchObserver;
  readonly random?: Random;
  readonly inactivityTimeoutMilliseconds?: number;
  /** Every object is handed to the handler again this often, to repair what no watch tells of; never when absent. */
  readonly resyncMilliseconds?: number;
  readonly backoff?: BackoffLimits;
  /** Where the cluster does not have the kind there is nothing to look for, instead of trying for ever. */
  readonly optional?: boolean;
}

interface ListPage {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items: readonly unknown[];
}

interface WatchLine {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: unknown;
}

class WatchInactiveError extends Error {}

/** See the module's comment. */
export class Reflector<T extends KubernetesObject> {
  readonly #options: ReflectorOptions<T>;
  readonly #random: Random;
  readonly #objects = new Map<string, T>();
  readonly #groups = new Map<string, Set<string>>();
  /** Keys of objects that are there and cannot be read. */
  readonly #unreadable = new Set<string>();
  readonly #synced = Promise.withResolvers<void>();
  #isSynced = false;
  /** Objects of this round of the resync that were not handed over yet, and how many at a step. */
  #resync: { readonly keys: string[]; readonly share: number } = { keys: [], share: 0 };
  /** The first round begins when one would have ended: everything was looked at just now. */
  #resyncStep = 1;
  /** Where the next watch goes on from; undefined when a list comes first. */
  #resourceVersion: string | undefined;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
  }

  /** Resolves once the first list is complete. */
  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  /** Whether the first list is complete. */
  get hasSynced(): boolean {
    return this.#isSynced;
  }

  /** The object of that key (see `objectKey`). */
  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  /** Every object. */
  values(): IterableIterator<T> {
    return this.#objects.values();
  }

  /** The objects of a group (see `groupOf`). */
  inGroup(group: string): T[] {
    const keys = this.#groups.get(group) ?? [];
    return [...keys].flatMap((key) => this.#objects.get(key) ?? []);
  }

  /** Lists and watches until the signal aborts, or until there is no such kind (see `optional`). Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { resyncMilliseconds } = this.#options;
    const resync =
      resyncMilliseconds === undefined
        ? undefined
        : setInterval(() => this.#resyncSome(), resyncMilliseconds / RESYNC_STEPS);
    try {
      let failures = 0;
      while (!signal.aborted) {
        try {
          this.#resourceVersion ??= await this.#list(signal);
          await this.#watch(this.#resourceVersion, signal, () => {
            failures = 0;
          });
        } catch (error) {
          if (signal.aborted) return;
          if (this.#options.optional === true && isNotFound(error)) {
            this.#listed();
            return;
          }
          const reason = this.#restartReason(error);
          if (reason === 'expired' || failures >= FAILURES_BEFORE_LIST) this.#resourceVersion = undefined;
          await sleep(this.#waitAfter(error, failures), signal);
          failures += 1;
        }
      }
    } finally {
      clearInterval(resync);
    }
  }

  #waitAfter(error: unknown, failures: number): number {
    const asked = error instanceof ApiError ? (error.retryAfterSeconds ?? 0) * 1000 : 0;
    return Math.max(asked, fullJitter(failures, this.#options.backoff ?? BACKOFF, this.#random));
  }

  #restartReason(error: unknown): RestartReason {
    const { resource, logger, observer } = this.#options;
    const reason = isExpired(error) ? 'expired' : error instanceof WatchInactiveError ? 'inactive' : 'error';
    observer?.restarted(resource.plural, reason);
    logger.warn({ resource: resource.plural, reason, err: error }, 'watch ended; starting another');
    return reason;
  }

  async #list(signal: AbortSignal): Promise<string> {
    const { api, resource, namespace, labelSelector, fieldSelector, observer } = this.#options;
    const seen = new Set<string>();
    let next: string | undefined;
    let resourceVersion: string;
    do {
      const query: Query = { limit: PAGE_SIZE, labelSelector, fieldSelector, continue: next };
      const page = (await api.get(listPath(resource, namespace), query, signal)) as ListPage;
      for (const item of page.items) {
        seen.add(this.#put(item));
      }
      resourceVersion = page.metadata.resourceVersion;
      next = page.metadata.continue === '' ? undefined : page.metadata.continue;
    } while (next !== undefined);
    for (const key of [...this.#objects.keys(), ...this.#unreadable]) if (!seen.has(key)) this.#remove(key);
    observer?.eventSeen(resource.plural);
    this.#listed();
    return resourceVersion;
  }

  #listed(): void {
    this.#isSynced = true;
    this.#synced.resolve();
  }

  /** Returns when the server ends the watch in good order. */
  async #watch(from: string, signal: AbortSignal, onAlive: () => void): Promise<void> {
    const { api, resource, namespace, labelSelector, fieldSelector, observer } = this.#options;
    const inactivity = new AbortController();
    const limit = this.#options.inactivityTimeoutMilliseconds ?? INACTIVITY_TIMEOUT_MS;
    let watchdog = setTimeout(() => inactivity.abort(), limit);
    const started = Date.now();
    const timeoutSeconds = Math.round(WATCH_TIMEOUT_SECONDS * (1 + this.#random()));
    try {
      const query: Query = {
        resourceVersion: from,
        allowWatchBookmarks: true,
        timeoutSeconds,
        labelSelector,
        fieldSelector,
      };
      const both = AbortSignal.any([signal, inactivity.signal]);
      for await (const line of api.watch(listPath(resource, namespace), query, both)) {
        clearTimeout(watchdog);
        watchdog = setTimeout(() => inactivity.abort(), limit);
        observer?.eventSeen(resource.plural);
        onAlive();
        this.#resourceVersion = this.#consume(line as WatchLine) ?? this.#resourceVersion;
      }
    } catch (error) {
      throw inactivity.signal.aborted ? new WatchInactiveError(`no event for ${limit} ms`) : error;
    } finally {
      clearTimeout(watchdog);
    }
    const elapsedSeconds = (Date.now() - started) / 1000;
    if (elapsedSeconds < 1) throw new Error('the server closed the watch at once');
    observer?.restarted(resource.plural, elapsedSeconds >= timeoutSeconds - 1 ? 'timeout' : 'closed');
  }

  #consume(line: WatchLine): string | undefined {
    switch (line.type) {
      case 'ADDED':
      case 'MODIFIED':
        this.#put(line.object);
        break;
      case 'DELETED': {
        const { metadata } = line.object as KubernetesObject;
        this.#remove(objectKey({ metadata }));
        break;
      }
      case 'BOOKMARK':
        break;
      case 'ERROR': {
        const status = line.object as { code?: number };
        throw new ApiError(
          `WATCH ${this.#options.resource.plural}`,
          status.code ?? 500,
          JSON.stringify(line.object),
        );
      }
    }
    return (line.object as KubernetesObject).metadata.resourceVersion;
  }

  /**
   * Stores an object. One that cannot be read is reported and stays as it was known before, if it was; it stops no
   * other.
   */
  #put(raw: unknown): string {
    const key = objectKey(raw as KubernetesObject);
    let object: T;
    try {
      object = this.#options.parse(raw);
    } catch (error) {
      const { resource, logger } = this.#options;
      logger.error({ resource: resource.plural, name: key, err: error }, 'unreadable object');
      this.#setReadable(key, false);
      return key;
    }
    this.#setReadable(key, true);
    const previous = this.#objects.get(key);
    if (previous !== undefined) this.#leaveGroup(key, previous);
    this.#objects.set(key, object);
    this.#joinGroup(key, object);
    if (previous?.metadata.resourceVersion !== object.metadata.resourceVersion || previous === undefined) {
      this.#tell(object, previous);
    }
    return key;
  }

  #setReadable(key: string, isReadable: boolean): void {
    if (this.#unreadable.has(key) === !isReadable) return;
    if (isReadable) this.#unreadable.delete(key);
    else this.#unreadable.add(key);
    this.#options.observer?.unreadable(this.#options.resource.plural, this.#unreadable.size);
  }

  #remove(key: string): void {
    this.#setReadable(key, true);
    const previous = this.#objects.get(key);
    if (previous === undefined) return;
    this.#objects.delete(key);
    this.#leaveGroup(key, previous);
    this.#tell(undefined, previous);
  }

  #joinGroup(key: string, object: T): void {
    const group = this.#options.groupOf?.(object);
    if (group === undefined) return;
    const keys = this.#groups.get(group);
    if (keys === undefined) this.#groups.set(group, new Set([key]));
    else keys.add(key);
  }

  #leaveGroup(key: string, object: T): void {
    const group = this.#options.groupOf?.(object);
    if (group === undefined) return;
    const keys = this.#groups.get(group);
    keys?.delete(key);
    if (keys?.size === 0) this.#groups.delete(group);
  }

  /** The next step of the resync. A round goes by what there was when it began. */
  #resyncSome(): void {
    if (this.#resyncStep === 0) {
      const keys = [...this.#objects.keys()];
      this.#resync = { keys, share: Math.ceil(keys.length / RESYNC_STEPS) };
    }
    this.#resyncStep = (this.#resyncStep + 1) % RESYNC_STEPS;
    for (const key of this.#resync.keys.splice(0, this.#resync.share)) {
      const object = this.#objects.get(key);
      if (object !== undefined) this.#tell(object, object);
    }
  }

  #tell(current: T | undefined, previous: T | undefined): void {
    try {
      this.#options.onChange(current, previous);
    } catch (error) {
      this.#options.logger.error(
        { resource: this.#options.resource.plural, err: error },
        'change handler failed',
      );
    }
  }
}
