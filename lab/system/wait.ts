import { LabError } from '../errors.ts';

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** A condition to wait for; emulated guests are slow, so conditions are waited for, never fixed times. */
export interface WaitOptions {
  /** Completes the sentence "timed out waiting for …". */
  what: string;
  timeoutSeconds: number;
  intervalMilliseconds?: number;
  /** Where to look when it times out. */
  log?: string;
}

/**
 * Asks until the condition gives something other than false or undefined, and returns that.
 * What the condition throws ends the wait at once.
 */
export async function waitFor<T>(
  condition: () => Promise<T | false | undefined> | T | false | undefined,
  options: WaitOptions,
): Promise<T> {
  const deadline = Date.now() + options.timeoutSeconds * 1000;
  for (;;) {
    const result = await condition();
    if (result !== false && result !== undefined) {
      return result;
    }
    if (Date.now() >= deadline) {
      throw new LabError(
        'TimedOut',
        `timed out after ${options.timeoutSeconds} s waiting for ${options.what}`,
        options.log === undefined ? {} : { log: options.log },
      );
    }
    await sleep(options.intervalMilliseconds ?? 100);
  }
}
