import { setTimeout as sleep } from 'node:timers/promises';
import { dataplanePod, waitForOtherProcess } from '../dataplane-process.ts';
import { addDevice, deleteDevice } from '../rdma-device.ts';
import type { Scenario } from '../scenario.ts';

/** How the dataplane says that its device was taken away (docs/how-to/operations.md). */
const EXIT_DEVICE_REMOVED = 75;
/** Deleting waits in the kernel until the dataplane has closed the device: its drain timeout, and a margin. */
const RELEASED_MS_MAX = 20_000;
/** Kubelet's growing pause before it starts a container again, and a pod on an emulated node. */
const FRESH_PROCESS_TIMEOUT_SECONDS = 240;

/** The last rung: the device itself goes. */
export const device: Scenario = {
  name: 'device',
  says: `'rdma link delete' under I/O and add again: the dataplane leaves in time with code ${EXIT_DEVICE_REMOVED}, a fresh one serves`,
  targets: ['weir'],
  upSeconds: 8,
  recoverySeconds: 300,
  limits: (flaps) => ({
    // From the device's return: kubelet starts the container in its own time.
    stallMs: 180_000,
    stallConnectInFlightMs: 180_000,
    portServingMs: 180_000,
    restarts: flaps,
  }),
  fault: ({ shell, target, e2e, remark, miss }) => {
    let former: number | undefined;
    return {
      begin: async () => {
        former = await target.pid();
        const since = Date.now();
        await deleteDevice(shell);
        const releasedMs = Date.now() - since;
        remark(`device released after ${(releasedMs / 1000).toFixed(1)} s`);
        if (releasedMs > RELEASED_MS_MAX) miss(`the device was released only after ${releasedMs} ms`);
      },
      during: () => sleep(3000),
      end: async () => {
        await addDevice(shell);
        await waitForOtherProcess(() => target.pid(), former, FRESH_PROCESS_TIMEOUT_SECONDS);
        const { lastExitCode } = await dataplanePod(e2e);
        if (lastExitCode !== EXIT_DEVICE_REMOVED) miss(`the dataplane ended with ${lastExitCode}`);
      },
    };
  },
  restore: ({ shell }) => addDevice(shell),
};
