/** The kernel's own target under the runner. */

import { NODE } from '../fixture.ts';
import type { GuestShell } from '../guest-shell.ts';
import { KERNEL_TARGET_NQN, startKernelTarget, stopKernelTarget } from '../kernel-target.ts';
import type { FlapTarget } from './flap-target.ts';
import { countOfKernelTarget } from './resources.ts';

/** Beside Weir's, on the same address. */
const PORT = 4421;
const RAM_DISK_KIB = 64 * 1024;

/** nvmet-rdma with a RAM disk. */
export function kernelFlapTarget(shell: GuestShell, address: string): FlapTarget {
  const where = { address, port: PORT };
  return {
    name: 'nvmet',
    nqn: KERNEL_TARGET_NQN,
    address: where,
    nsids: [1],
    nsid: 1,
    serve: () => startKernelTarget(shell, NODE, where, RAM_DISK_KIB),
    end: () => stopKernelTarget(shell, NODE),
    // It lives in the kernel: a restart of it would be one of the guest, which no command would outlive.
    restarts: async () => 0,
    pid: async () => undefined,
    count: countOfKernelTarget,
    events: async () => [],
  };
}
