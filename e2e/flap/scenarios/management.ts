import { setTimeout as sleep } from 'node:timers/promises';
import { planGuest } from '../../../lab/guests/plan.ts';
import { HOST, NODE } from '../../fixture.ts';
import { type GuestShell, mustExec } from '../../guest-shell.ts';
import { waitUntil } from '../../wait-until.ts';
import { addDevice, deleteDevice, isDeviceSound } from '../rdma-device.ts';
import type { Scenario } from '../scenario.ts';

const PORT = '7174';
const REASON = 'ManagementQueuePairDead';
const NOTICED_TIMEOUT_SECONDS = 60;

// Another user of the connection manager on the node: connected, then stopped, so that it costs nothing. When it is
// killed while the interface is down, the kernel sends its goodbye, and the device's queue pair 1 never recovers.
const CONNECT = `
rping -c -a "$1" -p "$2" -C 100000 -S 64 >/dev/null 2>&1 &
for try in $(seq 100); do
  rdma resource show cm_id | grep -q "state CONNECT .*comm rping" && break
  sleep 0.1
done
pkill -STOP -x rping`;

async function connectAnother(shell: GuestShell): Promise<void> {
  const { rdmaAddress } = planGuest(HOST);
  await mustExec(shell, HOST, [
    ...['sh', '-c', 'setsid rping -s -P -a "$1" -p "$2" >/dev/null 2>&1 </dev/null & sleep 1'],
    ...['sh', rdmaAddress, PORT],
  ]);
  await mustExec(shell, NODE, ['setsid', 'sh', '-c', CONNECT, 'sh', rdmaAddress, PORT]);
}

/** The management queue pair dies through somebody else. */
export const management: Scenario = {
  name: 'management',
  says: "another program's connection ends while the link is down, which kills the soft RDMA device's management queue pair: Weir says so and how to cure it, and serves again when the device was made anew",
  targets: ['weir'],
  upSeconds: 8,
  // Counted from the moment at which the device is there again. Whether the process has to end for that is its own
  // affair: kubelet starts it again.
  recoverySeconds: 300,
  limits: (flaps) => ({
    stallMs: 180_000,
    stallConnectInFlightMs: 180_000,
    portServingMs: 180_000,
    restarts: flaps,
  }),
  fault: ({ lab, shell, eventsSince, remark, miss }) => ({
    begin: async () => {
      await connectAnother(shell);
      await lab.link(NODE, 'down');
    },
    during: async () => {
      await shell.exec(NODE, ['pkill', '-KILL', '-x', 'rping']);
      await sleep(3000);
      const upAtMs = Date.now();
      await lab.link(NODE, 'up');
      if (await isDeviceSound(shell)) miss('the management queue pair survived: nothing was tested');
      try {
        const told = await waitUntil(
          'the dataplane to notice',
          async () =>
            (await eventsSince(upAtMs)).find(
              // It drains first, for the same reason.
              ({ event, reason, to }) => event === 'portPhase' && reason === REASON && to !== 'Draining',
            ),
          { timeoutSeconds: NOTICED_TIMEOUT_SECONDS },
        );
        remark(`noticed after ${((Date.now() - upAtMs) / 1000).toFixed(1)} s: ${told.to}: ${told.msg}`);
        if (told.to !== 'Failed') miss(`the port is ${told.to}`);
        if (!/rdma link/.test(told.msg)) miss('the message does not name the cure');
      } catch {
        miss(`not noticed within ${NOTICED_TIMEOUT_SECONDS} s`);
      }
    },
    end: async () => {
      await deleteDevice(shell);
      await addDevice(shell);
    },
  }),
  restore: async ({ lab, shell }) => {
    for (const guest of [NODE, HOST]) await shell.exec(guest, ['pkill', '-KILL', '-x', 'rping']);
    await lab.link(NODE, 'up');
    await addDevice(shell);
  },
};
