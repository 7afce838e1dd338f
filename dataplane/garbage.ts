// Keeps the memory of Node's heap near what is in use.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Left alone, V8 collects a heap of this size once in hours: until then garbage that it took for long-lived (statistics
 * and events, each kept for a moment) adds up to tens of megabytes on every node. A collection takes some tens of
 * milliseconds of this thread, which does no I/O.
 */
const INTERVAL_MILLISECONDS = 60_000;

/** V8's own collection of everything; Node gives it out only when it was asked for when it started, or like this. */
export function fullCollection(): () => void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect !== 'function') throw new Error('this Node.js does not give out its garbage collection');
  return () => collect();
}

/** Collects from now on, once a minute; never keeps the process from ending. */
export function collectGarbageRegularly(collect: () => void): void {
  setInterval(collect, INTERVAL_MILLISECONDS).unref();
}
