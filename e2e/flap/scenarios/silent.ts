import { setTimeout as sleep } from 'node:timers/promises';
import { NODE } from '../../fixture.ts';
import { type GuestShell, mustExec } from '../../guest-shell.ts';
import type { Scenario } from '../scenario.ts';

const DOWN_SECONDS = 4;

type Direction = 'egress' | 'ingress';

// Every packet of one direction is dropped where the kernel classifies traffic; neither side sees a link go down.
const DROP = 'tc qdisc replace dev rdma0 clsact && tc filter add dev rdma0 "$1" matchall action drop';

async function drop(shell: GuestShell, direction: Direction): Promise<void> {
  await mustExec(shell, NODE, ['sh', '-c', DROP, 'sh', direction]);
}

async function pass(shell: GuestShell): Promise<void> {
  await shell.exec(NODE, ['tc', 'qdisc', 'del', 'dev', 'rdma0', 'clsact']);
}

/** What the node sends is lost, then what is sent to it. */
export const silent: Scenario = {
  name: 'silent',
  says: `everything is lost in one direction for ${DOWN_SECONDS} s and no link goes down: what the node sends (odd flaps), what it is sent (even)`,
  targets: ['weir', 'nvmet'],
  upSeconds: 10,
  // Nobody is told of the end of the loss: the next retransmission of either side finds it, or a keep-alive does.
  limits: () => ({ stallMs: 10_000, stallConnectInFlightMs: 10_000, portServingMs: null, restarts: 0 }),
  fault: ({ shell, remark }, flap) => {
    const direction: Direction = flap % 2 === 1 ? 'egress' : 'ingress';
    return {
      begin: () => {
        remark(`${direction} lost`);
        return drop(shell, direction);
      },
      during: () => sleep(DOWN_SECONDS * 1000),
      end: () => pass(shell),
    };
  },
  restore: ({ shell }) => pass(shell),
};
