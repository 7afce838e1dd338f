import { setTimeout as sleep } from 'node:timers/promises';
import { HOST, NODE } from '../../fixture.ts';
import { type GuestShell, mustExec } from '../../guest-shell.ts';
import type { Scenario } from '../scenario.ts';

const DOWN_SECONDS = 4;

// Dropped where it arrives, as if the network had lost it. Where it is sent the sender would know: a packet that is
// dropped on its way out is a send that failed, for a soft RDMA device no less than a link that is down.
const DROP = 'tc qdisc replace dev rdma0 clsact && tc filter add dev rdma0 ingress matchall action drop';

async function drop(shell: GuestShell, receiver: string): Promise<void> {
  await mustExec(shell, receiver, ['sh', '-c', DROP]);
}

async function pass(shell: GuestShell, receiver: string): Promise<void> {
  await shell.exec(receiver, ['tc', 'qdisc', 'del', 'dev', 'rdma0', 'clsact']);
}

/** What the node sends is lost, then what is sent to it; neither side sees a link go down. */
export const silent: Scenario = {
  name: 'silent',
  says: `everything is lost in one direction for ${DOWN_SECONDS} s and no link goes down: what the node sends (odd flaps), what it is sent (even)`,
  targets: ['weir', 'nvmet'],
  upSeconds: 10,
  // Nobody is told of the end of the loss: the next retransmission of either side finds it, or a keep-alive does.
  limits: () => ({ stallMs: 10_000, stallConnectInFlightMs: 10_000, portServingMs: null, restarts: 0 }),
  fault: ({ shell, remark }, flap) => {
    const receiver = flap % 2 === 1 ? HOST : NODE;
    return {
      begin: () => {
        remark(receiver === HOST ? 'what the node sends is lost' : 'what the node is sent is lost');
        return drop(shell, receiver);
      },
      during: () => sleep(DOWN_SECONDS * 1000),
      end: () => pass(shell, receiver),
    };
  },
  restore: async ({ shell }) => {
    for (const guest of [NODE, HOST]) await pass(shell, guest);
  },
};
