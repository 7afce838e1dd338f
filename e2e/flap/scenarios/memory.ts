import { setTimeout as sleep } from 'node:timers/promises';
import { NODE } from '../../fixture.ts';
import { mustExec } from '../../guest-shell.ts';
import { waitUntil } from '../../wait-until.ts';
import { lastPhase } from '../dataplane-log.ts';
import type { Scenario, ScenarioContext } from '../scenario.ts';
import { standaloneFlapTarget } from '../standalone-flap-target.ts';

const FAILING_SECONDS = 30;
/** Too little for the smallest piece; enough for some (a port of the lab's target registers about 21 MB). */
const NOTHING_BYTES = 64 << 10;
const PART_BYTES = 12 << 20;
const DRAINED_TIMEOUT_SECONDS = 30;

const FLOW_TIMEOUT_SECONDS = 60;
const FLOW = 30;

async function takeLinkDown({ lab, target }: ScenarioContext): Promise<void> {
  await lab.link(NODE, 'down');
  await waitUntil(
    'the port to be drained',
    async () => lastPhase(await target.events())?.to === 'Down' || undefined,
    { timeoutSeconds: DRAINED_TIMEOUT_SECONDS },
  );
}

async function limitLockedMemory({ shell, target }: ScenarioContext, bytes: string): Promise<void> {
  await mustExec(shell, NODE, ['prlimit', `--pid=${await target.pid()}`, `--memlock=${bytes}`]);
}

/** Memory regions cannot be registered when the link comes back. */
export const memory: Scenario = {
  name: 'memory',
  says: `ibv_reg_mr fails for ${FAILING_SECONDS} s after link-up, for all memory (odd flaps) or beyond a part of it (even): standalone, under a memory-lock limit changed while it runs`,
  targets: ['weir'],
  weir: (e2e) =>
    standaloneFlapTarget(e2e, {
      file: '/var/lib/weir/flap-memory.img',
      withoutCapabilities: ['CAP_IPC_LOCK', 'CAP_SYS_RESOURCE'],
    }),
  upSeconds: 10,
  // Counted from the moment at which memory can be registered again.
  limits: () => ({ stallMs: 10_000, stallConnectInFlightMs: 10_000, portServingMs: 5000, restarts: 0 }),
  fault: (context, flap) => {
    const { lab, target, completed, remark, miss } = context;
    const partly = flap % 2 === 0;
    return {
      begin: () => takeLinkDown(context),
      during: async () => {
        await limitLockedMemory(context, `${partly ? PART_BYTES : NOTHING_BYTES}:unlimited`);
        await lab.link(NODE, 'up');
        const before = completed();
        await sleep(FAILING_SECONDS * 1000);
        const last = lastPhase(await target.events());
        remark(`${partly ? 'a part' : 'nothing'} could be registered: ${last?.to} (${last?.reason})`);
        if (partly && last?.to !== 'Degraded')
          miss(`the port is ${last?.to} where it could serve with a part`);
        if (partly && completed() === before) miss('no I/O in service with a part of the memory');
        if (!partly && last?.to === 'Serving') miss('the limit had no effect');
      },
      end: () => limitLockedMemory(context, 'unlimited:unlimited'),
    };
  },
  // Memory that was registered in many small pieces stays so until the port is armed again, and would look like a leak.
  beforeCounting: async (context) => {
    await takeLinkDown(context);
    await context.lab.link(NODE, 'up');
    const goal = context.completed() + FLOW;
    await waitUntil('I/O after an outage with memory', () => context.completed() >= goal || undefined, {
      timeoutSeconds: FLOW_TIMEOUT_SECONDS,
    });
  },
  restore: async (context) => {
    await context.lab.link(NODE, 'up');
    await limitLockedMemory(context, 'unlimited:unlimited');
  },
};
