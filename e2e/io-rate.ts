/** When did I/O move? A sampler in the host guest, and what its samples say about a stall. */
import type { GuestShell, RunningCommand } from './guest-shell.ts';

/** What had finished on a device up to a moment of this machine's clock. */
export interface IoSample {
  readonly atMs: number;
  /** Blocks of 4 KiB that were read and written: I/Os, for the jobs here. */
  readonly completed: number;
}

/** Between two samples; the resolution of every stall that is reported. */
const SAMPLE_SECONDS = 0.1;

// Fields 3 and 7 of a block device's stat file: sectors read and written (kernel documentation, block/stat). Not fields
// 1 and 5, the I/Os: a multipath device counts an I/O there too when its path failed it and it waits to be tried again
// (nvme_failover_req ends the request, with no bytes left in it), so that being told of a lost path looks like progress.
const SAMPLER = `while :; do read -r _ _ r _ _ _ w _ < "/sys/block/$1/stat" && echo "$(((r + w) / 8))"; sleep ${SAMPLE_SECONDS}; done`;

/** Samples a device until stopped. */
export class IoRateSampler {
  readonly samples: IoSample[] = [];
  readonly #command: RunningCommand;

  constructor(shell: GuestShell, guest: string, device: string, limitSeconds: number) {
    this.#command = shell.spawn(guest, ['sh', '-c', SAMPLER, 'sh', device], {
      timeoutSeconds: limitSeconds,
      onLine: (line) => {
        const completed = Number.parseInt(line, 10);
        if (Number.isFinite(completed)) this.samples.push({ atMs: Date.now(), completed });
      },
    });
    // It is always ended from outside, so how it ends says nothing.
    this.#command.finished.catch(() => undefined);
  }

  /** The newest sample's count, or `undefined` before the first. */
  get completed(): number | undefined {
    return this.samples.at(-1)?.completed;
  }

  async stop(): Promise<void> {
    await this.#command.kill();
  }
}

/** A sample this much older than the next one says nothing of the moment between them. */
const STALE_MS = 1500;

/**
 * Milliseconds from `sinceMs` to the first sample with more I/Os finished than at that moment;
 * `undefined` when nothing has moved yet.
 */
export function stallAfter(samples: readonly IoSample[], sinceMs: number): number | undefined {
  let before: IoSample | undefined;
  for (const sample of samples) {
    if (sample.atMs <= sinceMs) {
      before = sample;
      continue;
    }
    // Without a fresh sample from before, the first one after is the base: it can only make the stall look longer. A
    // host that was frozen goes on with samples, and answers, of the time before.
    if (before === undefined || sample.atMs - before.atMs > STALE_MS) before = sample;
    else if (sample.completed > before.completed) return sample.atMs - sinceMs;
  }
  return undefined;
}

/** I/Os that finished in each span of `binMs` from `fromMs` on. */
export function finishedPerBin(samples: readonly IoSample[], fromMs: number, binMs: number): number[] {
  const bins: number[] = [];
  let last: IoSample | undefined;
  for (const sample of samples) {
    if (last !== undefined && sample.atMs > fromMs) {
      const index = Math.floor((sample.atMs - fromMs) / binMs);
      while (bins.length <= index) bins.push(0);
      bins[index] = (bins[index] ?? 0) + Math.max(0, sample.completed - last.completed);
    }
    last = sample;
  }
  return bins;
}

/**
 * The longest time, in milliseconds, in which no I/O finished, of all that began or ended at `sinceMs` or later. A stall
 * that has not ended counts up to the last sample.
 */
export function longestStall(samples: readonly IoSample[], sinceMs: number): number {
  let longest = 0;
  let progressed: IoSample | undefined;
  for (const sample of samples) {
    if (progressed === undefined) {
      progressed = sample;
      continue;
    }
    if (sample.atMs >= sinceMs) longest = Math.max(longest, sample.atMs - progressed.atMs);
    if (sample.completed > progressed.completed) progressed = sample;
  }
  return longest;
}
