/** Waiting between attempts. */

/** A source of numbers in [0, 1); tests pass their own. */
export type Random = () => number;

/** Bounds of a back-off. */
export interface BackoffLimits {
  /** Upper bound of the first wait. */
  readonly baseMilliseconds: number;
  /** Upper bound of every wait. */
  readonly maxMilliseconds: number;
}

/** The upper bound of the wait after `failures` failures in a row: doubles until the maximum. */
export function backoffCeiling(failures: number, limits: BackoffLimits): number {
  return Math.min(limits.maxMilliseconds, limits.baseMilliseconds * 2 ** Math.min(failures, 40));
}

/** A wait anywhere below the ceiling ("full jitter"): many clients that failed together come back apart. */
export function fullJitter(failures: number, limits: BackoffLimits, random: Random = Math.random): number {
  return random() * backoffCeiling(failures, limits);
}

/** Resolves after the time, or at once when the signal aborts; never rejects. */
export function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, Math.max(0, milliseconds));
    signal.addEventListener('abort', finish, { once: true });
  });
}
