import { setTimeout as sleep } from 'node:timers/promises';
import { scrapeTarget } from '../../dataplane-metrics.ts';
import { NODE } from '../../fixture.ts';
import { mustExec } from '../../guest-shell.ts';
import { waitUntil } from '../../wait-until.ts';
import { dataplanePod, waitForOtherProcess } from '../dataplane-process.ts';
import type { Limits } from '../report.ts';
import type { Scenario, ScenarioContext } from '../scenario.ts';

const DOWN_SECONDS_MIN = 3;
/**
 * Kubelet waits longer each time before it starts a container again (10 s, 20 s, 40 s …), and an emulated node takes
 * half a minute for a pod.
 */
const FRESH_PROCESS_TIMEOUT_SECONDS = 240;

/** The fresh process has to open the device and to be found by the host's next attempt. */
const limits = (flaps: number): Limits => ({
  stallMs: 15_000,
  stallConnectInFlightMs: 15_000,
  portServingMs: 10_000,
  restarts: flaps,
});

/** The names under which the host knows the target's namespaces: what must not change with the process. */
async function identifiers({ host, target }: ScenarioContext): Promise<string> {
  return (await host.namespaces(target.nqn)).map(({ nsid, wwid }) => `${nsid}:${wwid}`).join(' ');
}

/** The cable is out, `end` ends the process, a fresh one comes, the cable is back. */
function scenario(name: string, says: string, end: (context: ScenarioContext) => Promise<void>): Scenario {
  let before = '';
  return {
    name,
    says,
    targets: ['weir'],
    upSeconds: 8,
    limits,
    fault: (context) => ({
      begin: async () => {
        before = await identifiers(context);
        // At the cable: the kernel itself says goodbye for a process that ends, and on an interface that is down
        // this kills the device's management queue pair.
        await context.lab.link(NODE, 'down', { from: 'outside' });
      },
      during: async () => {
        const { e2e, target, remark } = context;
        const since = Date.now();
        const former = await target.pid();
        await sleep(1000);
        await end(context);
        await waitForOtherProcess(() => target.pid(), former, FRESH_PROCESS_TIMEOUT_SECONDS);
        await waitUntil(
          'the fresh process to know what it has to serve',
          async () =>
            (await scrapeTarget(e2e.path, NODE)).sum('weir_target_listener_up', {}) === 0 || undefined,
          { timeoutSeconds: FRESH_PROCESS_TIMEOUT_SECONDS },
        );
        remark(`fresh process after ${((Date.now() - since) / 1000).toFixed(1)} s`);
        await sleep(Math.max(0, since + DOWN_SECONDS_MIN * 1000 - Date.now()));
      },
      end: () => context.lab.link(NODE, 'up', { from: 'outside' }),
    }),
    check: async (context) => {
      const after = await identifiers(context);
      if (after !== before) context.miss(`identifiers were ${before} and are ${after}`);
    },
    restore: ({ lab }) => lab.link(NODE, 'up', { from: 'outside' }),
  };
}

/** Nothing of the process can be saved. */
export const kill = scenario(
  'kill',
  "the cable is out, the dataplane is killed (kill -9) and comes back, then the cable is back: the host's disks are the same",
  async ({ shell, target }) => {
    await mustExec(shell, NODE, ['kill', '-9', String(await target.pid())]);
  },
);

/** Asked to leave, as when a node is drained or the image is replaced. */
export const terminate = scenario(
  'terminate',
  "the cable is out, the dataplane's pod is deleted (SIGTERM) and replaced, then the cable is back",
  async ({ e2e }) => {
    const { name } = await dataplanePod(e2e);
    await e2e.cluster.kubectl(['delete', 'pod', name, '-n', e2e.target.namespace, '--wait=false']);
  },
);
