/** A link goes down and up under I/O; how long until I/O moves again? */
import { setTimeout as sleep } from 'node:timers/promises';
import { type IoRateSampler, stallAfter } from './io-rate.ts';
import { waitUntil } from './wait-until.ts';

/** Takes the link down or up; resolves when it is done. */
export type SetLink = (state: 'up' | 'down') => Promise<void>;

/** One outage as the host saw it. */
export interface FlapResult {
  /** How long the link was down, milliseconds. */
  readonly downMs: number;
  /** From link-up to the first I/O that finished, milliseconds; the slowest namespace counts. */
  readonly stallAfterUpMs: number;
}

/** I/O that has not moved this long after link-up never will: the run fails. */
const RECOVERY_LIMIT_SECONDS = 90;

/** One outage of `downSeconds` under I/O watched by `samplers`. */
export async function flapLink(
  setLink: SetLink,
  samplers: readonly IoRateSampler[],
  downSeconds: number,
): Promise<FlapResult> {
  await setLink('down');
  const downAt = Date.now();
  await sleep(downSeconds * 1000);
  const upRequestedAt = Date.now();
  await setLink('up');
  // The link came up at some moment during the call; counting from its start never flatters the stall.
  const stalls = await Promise.all(
    samplers.map((sampler) =>
      waitUntil('I/O after link-up', () => stallAfter(sampler.samples, upRequestedAt), {
        timeoutSeconds: RECOVERY_LIMIT_SECONDS,
        intervalMilliseconds: 50,
        describe: () => `${sampler.completed ?? 0} I/Os finished in all`,
      }),
    ),
  );
  return { downMs: upRequestedAt - downAt, stallAfterUpMs: Math.max(0, ...stalls) };
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
