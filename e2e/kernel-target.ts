/** The kernel's own target (nvmet-rdma) on a node guest: what Weir's figures are held against, in the same run. */
import { type GuestShell, mustExec } from './guest-shell.ts';
import type { TargetAddress } from './nvme-host.ts';

/** NQN of the kernel's target. */
export const KERNEL_TARGET_NQN = 'nqn.2026-11.dev.weir:kernel-target';

const CONFIGURATION = '/sys/kernel/config/nvmet';

// A RAM disk behind one namespace, open to any host: it exists for a minute, on the lab's own network.
const SET_UP = `set -e
modprobe brd rd_nr=1 rd_size=$3
modprobe nvmet-rdma
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
s=${CONFIGURATION}/subsystems/$4
mkdir -p "$s/namespaces/1"
echo 1 > "$s/attr_allow_any_host"
echo -n /dev/ram0 > "$s/namespaces/1/device_path"
echo 1 > "$s/namespaces/1/enable"
p=${CONFIGURATION}/ports/1
mkdir -p "$p"
echo rdma > "$p/addr_trtype"
echo ipv4 > "$p/addr_adrfam"
echo "$1" > "$p/addr_traddr"
echo "$2" > "$p/addr_trsvcid"
[ -e "$p/subsystems/$4" ] || ln -s "$s" "$p/subsystems/$4"`;

const TEAR_DOWN = `
rm -f ${CONFIGURATION}/ports/1/subsystems/*
rmdir ${CONFIGURATION}/ports/1 2>/dev/null
s=${CONFIGURATION}/subsystems/$1
[ -d "$s" ] && { echo 0 > "$s/namespaces/1/enable"; rmdir "$s/namespaces/1" "$s"; }
modprobe -r nvmet-rdma nvmet brd
true`;

/** Starts the kernel's target with a RAM disk of `sizeKiB`. */
export async function startKernelTarget(
  shell: GuestShell,
  guest: string,
  target: TargetAddress,
  sizeKiB: number,
): Promise<void> {
  await mustExec(
    shell,
    guest,
    ['sh', '-c', SET_UP, 'sh', target.address, String(target.port), String(sizeKiB), KERNEL_TARGET_NQN],
    { timeoutSeconds: 60 },
  );
}

/** Removes it with everything that it loaded. */
export async function stopKernelTarget(shell: GuestShell, guest: string): Promise<void> {
  await mustExec(shell, guest, ['sh', '-c', TEAR_DOWN, 'sh', KERNEL_TARGET_NQN], { timeoutSeconds: 60 });
}
