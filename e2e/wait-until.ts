import { setTimeout as sleep } from 'node:timers/promises';

/** The condition did not come true in time; the message says what was last seen. */
export class WaitTimeoutError extends Error {
  readonly code = 'WAIT_TIMEOUT';

  constructor(what: string, seconds: number, last: string) {
    super(`waited ${seconds} s for ${what}; last seen: ${last}`);
    this.name = 'WaitTimeoutError';
  }
}

/**
 * Asks again and again until `probe` gives something other than `undefined`.
 * A probe that throws counts as "not yet"; its message is what was last seen.
 */
export async function waitUntil<T>(
  what: string,
  probe: () => Promise<T | undefined> | T | undefined,
  options: { timeoutSeconds: number; intervalMilliseconds?: number; describe?: () => string },
): Promise<T> {
  const deadline = Date.now() + options.timeoutSeconds * 1000;
  let last = 'nothing';
  for (;;) {
    try {
      const found = await probe();
      if (found !== undefined) return found;
      last = options.describe?.() ?? last;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
    if (Date.now() >= deadline) throw new WaitTimeoutError(what, options.timeoutSeconds, last);
    await sleep(options.intervalMilliseconds ?? 500);
  }
}
