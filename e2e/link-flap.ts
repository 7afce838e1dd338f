/** A link goes down and up under I/O; how long until I/O moves again? */
import { setTimeout as sleep } from 'node:timers/promises';
import { type IoRateSampler, stallAfter } from './io-rate.ts';
import { WaitTimeoutError, waitUntil } from './wait-until.ts';

/** Takes the link down or up; resolves when it is done. */
export type SetLink = (state: 'up' | 'down') => Promise<void>;

/** One outage as the host saw it. */
export interface FlapResult {
  /** How long the link was down, milliseconds. */
  readonly downMs: number;
  /** This machine's clock, milliseconds: when link-up was asked for. */
  readonly upAtMs: number;
  /** From link-up to the first I/O that finished, milliseconds; the slowest namespace counts. */
  readonly stallAfterUpMs: number;
}

/** I/O that has not moved this long after link-up never will: the run fails. */
const RECOVERY_LIMIT_SECONDS = 90;

/** Something is taken away for a while and given back. */
export interface Fault {
  begin(): Promise<void>;
  /** Goes on while it is away; ends when it is to be given back. */
  during(): Promise<void>;
  end(): Promise<void>;
}

/** When a fault began and ended, and how long I/O took to move again. */
export interface OutageResult {
  /** This machine's clock, milliseconds: begun; asked to end. */
  readonly downAtMs: number;
  readonly upAtMs: number;
  /** From `upAtMs` to the first I/O that finished; the slowest sampler counts. Absent: none did within the limit. */
  readonly stallAfterUpMs?: number;
}

/** Carries out a fault under I/O watched by `samplers`, and waits so long at most for I/O to move again. */
export async function outage(
  fault: Fault,
  samplers: readonly IoRateSampler[],
  recoverySeconds: number = RECOVERY_LIMIT_SECONDS,
): Promise<OutageResult> {
  await fault.begin();
  const downAtMs = Date.now();
  await fault.during();
  const upAtMs = Date.now();
  await fault.end();
  // The link came up at some moment during the call; counting from its start never flatters the stall.
  try {
    const stalls = await Promise.all(
      samplers.map((sampler) =>
        waitUntil('I/O after link-up', () => stallAfter(sampler.samples, upAtMs), {
          timeoutSeconds: recoverySeconds,
          intervalMilliseconds: 50,
          describe: () => `${sampler.completed ?? 0} I/Os finished in all`,
        }),
      ),
    );
    return { downAtMs, upAtMs, stallAfterUpMs: Math.max(0, ...stalls) };
  } catch (error) {
    if (error instanceof WaitTimeoutError) return { downAtMs, upAtMs };
    throw error;
  }
}

/** One outage of `downSeconds` by a link; I/O must move again. */
export async function flapLink(
  setLink: SetLink,
  samplers: readonly IoRateSampler[],
  downSeconds: number,
): Promise<FlapResult> {
  const { downAtMs, upAtMs, stallAfterUpMs } = await outage(
    {
      begin: () => setLink('down'),
      during: () => sleep(downSeconds * 1000),
      end: () => setLink('up'),
    },
    samplers,
  );
  if (stallAfterUpMs === undefined) {
    throw new WaitTimeoutError('I/O after link-up', RECOVERY_LIMIT_SECONDS, 'none');
  }
  return { downMs: upAtMs - downAtMs, upAtMs, stallAfterUpMs };
}

/** Waits until every sampler has seen `count` more I/Os finish: I/O really flows again before the next outage. */
export async function waitForFlow(samplers: readonly IoRateSampler[], count: number): Promise<void> {
  const goals = samplers.map((sampler) => (sampler.completed ?? 0) + count);
  await waitUntil(
    `${count} more I/Os on every namespace`,
    () => samplers.every((sampler, index) => (sampler.completed ?? 0) >= (goals[index] ?? 0)) || undefined,
    {
      timeoutSeconds: RECOVERY_LIMIT_SECONDS,
      intervalMilliseconds: 100,
      describe: () => samplers.map((sampler) => sampler.completed ?? 0).join(', '),
    },
  );
}
