/**
 * Keys that await work. A key is in the queue at most once, is never worked on twice at a time, and comes back later
 * and later while its work keeps failing.
 */
import { type BackoffLimits, backoffCeiling } from '../kubernetes/backoff.ts';

/** An API server that was away is asked again by everybody within the longest wait. */
const RETRY: BackoffLimits = { baseMilliseconds: 200, maxMilliseconds: 30_000 };

/** Told about the queue's life; metrics listen. Times in seconds. */
export interface QueueObserver {
  added(): void;
  retried(): void;
  depth(keys: number): void;
  started(waitedSeconds: number): void;
  finished(workedSeconds: number): void;
}

const SILENT: QueueObserver = {
  added: () => undefined,
  retried: () => undefined,
  depth: () => undefined,
  started: () => undefined,
  finished: () => undefined,
};

/** See the module's comment. */
export class WorkQueue {
  readonly #observer: QueueObserver;
  readonly #retry: BackoffLimits;
  /** Keys to hand out, in order, with the time at which each was added. */
  readonly #waiting = new Map<string, number>();
  /** Keys being worked on, with the time at which each was started. */
  readonly #active = new Map<string, number>();
  /** Keys that were added again while being worked on. */
  readonly #dirty = new Set<string>();
  readonly #failures = new Map<string, number>();
  readonly #timers = new Map<string, { timer: NodeJS.Timeout; dueMs: number }>();
  #takers: ((key: string | undefined) => void)[] = [];
  #isShut = false;

  constructor(observer: QueueObserver = SILENT, retry: BackoffLimits = RETRY) {
    this.#observer = observer;
    this.#retry = retry;
  }

  /** Keys that wait to be taken. */
  get depth(): number {
    return this.#waiting.size;
  }

  /** Asks for work on a key. */
  add(key: string): void {
    if (this.#isShut) return;
    this.#cancelTimer(key);
    if (this.#active.has(key)) {
      this.#dirty.add(key);
      return;
    }
    if (this.#waiting.has(key)) return;
    this.#waiting.set(key, performance.now());
    this.#observer.added();
    this.#observer.depth(this.#waiting.size);
    this.#handOut();
  }

  /** Asks for work on a key after a time; an earlier request for the same key stands. */
  addAfter(key: string, milliseconds: number): void {
    if (this.#isShut) return;
    const dueMs = performance.now() + milliseconds;
    const existing = this.#timers.get(key);
    if (existing !== undefined && existing.dueMs <= dueMs) return;
    this.#cancelTimer(key);
    this.#timers.set(key, { timer: setTimeout(() => this.add(key), milliseconds), dueMs });
  }

  /** Asks for work on a key whose last work failed, no sooner than after `atLeastMilliseconds`. */
  retry(key: string, atLeastMilliseconds = 0): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    this.#observer.retried();
    this.addAfter(key, Math.max(atLeastMilliseconds, backoffCeiling(failures, this.#retry)));
  }

  /** Forgets a key's failures. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** The next key, or undefined once the queue is shut. `done` must follow. */
  take(): Promise<string | undefined> {
    return new Promise((resolve) => {
      this.#takers.push(resolve);
      this.#handOut();
    });
  }

  /** Says that the work on a taken key has ended. */
  done(key: string): void {
    const started = this.#active.get(key);
    if (started === undefined) return;
    this.#active.delete(key);
    this.#observer.finished((performance.now() - started) / 1000);
    if (this.#dirty.delete(key)) this.add(key);
  }

  /** Drops what waits and lets every taker go. */
  shutDown(): void {
    this.#isShut = true;
    for (const { timer } of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#waiting.clear();
    this.#dirty.clear();
    for (const taker of this.#takers) taker(undefined);
    this.#takers = [];
  }

  #cancelTimer(key: string): void {
    const entry = this.#timers.get(key);
    if (entry === undefined) return;
    clearTimeout(entry.timer);
    this.#timers.delete(key);
  }

  #handOut(): void {
    if (this.#isShut) {
      for (const taker of this.#takers.splice(0)) taker(undefined);
      return;
    }
    while (this.#takers.length > 0) {
      const next = this.#waiting.entries().next();
      if (next.done === true) return;
      const [key, addedAt] = next.value;
      this.#waiting.delete(key);
      const now = performance.now();
      this.#active.set(key, now);
      this.#observer.started((now - addedAt) / 1000);
      this.#observer.depth(this.#waiting.size);
      this.#takers.shift()?.(key);
    }
  }
}
