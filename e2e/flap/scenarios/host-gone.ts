import { setTimeout as sleep } from 'node:timers/promises';
import { NODE } from '../../fixture.ts';
import { waitUntil } from '../../wait-until.ts';
import { listResources } from '../resources.ts';
import type { Scenario, ScenarioContext } from '../scenario.ts';

/** Well past the host's keep-alive timeout (5 s) and what a target adds to it. */
const GONE_SECONDS_MIN = 12;
const FREED_TIMEOUT_SECONDS = 60;

/** Waits until the target holds no queue pair; how long that took since `sinceMs`. */
async function hostFreed({ shell, target, remark, miss }: ScenarioContext, sinceMs: number): Promise<void> {
  try {
    await waitUntil(
      'the target to free what the host held',
      async () => target.count(await listResources(shell, NODE, await target.pid())).qps === 0 || undefined,
      { timeoutSeconds: FREED_TIMEOUT_SECONDS },
    );
    remark(`freed after ${((Date.now() - sinceMs) / 1000).toFixed(1)} s`);
  } catch {
    miss(`queue pairs of the frozen host were not freed within ${FREED_TIMEOUT_SECONDS} s`);
  }
}

/** The host's processors are stopped for longer than its keep-alive allows. */
export const hostGone: Scenario = {
  name: 'host-gone',
  says: 'the host freezes past its keep-alive timeout: the target frees what it held; then the host goes on',
  targets: ['weir', 'nvmet'],
  upSeconds: 8,
  // The host finds out by its own timers, which stood still with it.
  limits: () => ({ stallMs: 15_000, stallConnectInFlightMs: 15_000, portServingMs: null, restarts: 0 }),
  fault: (context) => ({
    begin: () => context.lab.freeze(context.host.guest),
    during: async () => {
      const since = Date.now();
      await hostFreed(context, since);
      await sleep(Math.max(0, since + GONE_SECONDS_MIN * 1000 - Date.now()));
    },
    end: () => context.lab.thaw(context.host.guest),
  }),
  restore: ({ lab, host }) => lab.thaw(host.guest),
};
