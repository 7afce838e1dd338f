/** The soft RDMA device of the node, made anew where the kernel cannot heal it. */
import { NODE } from '../fixture.ts';
import { type GuestShell, mustExec } from '../guest-shell.ts';
import { listResources, managementQueuePairLives } from './resources.ts';

/** Name of the device, and the interface it runs over. */
export const RDMA_DEVICE = 'rxe0';
const NETDEV = 'rdma0';

/**
 * Deleting waits in the kernel until every descriptor on the device is closed: longer than a dataplane takes to drain
 * and leave.
 */
const DELETE_TIMEOUT_SECONDS = 90;

/** Deletes the device; resolves when the kernel has let go of it. */
export async function deleteDevice(shell: GuestShell): Promise<void> {
  await mustExec(shell, NODE, ['rdma', 'link', 'delete', RDMA_DEVICE], {
    timeoutSeconds: DELETE_TIMEOUT_SECONDS,
  });
}

/** Adds the device; harmless when it is there. */
export async function addDevice(shell: GuestShell): Promise<void> {
  await mustExec(shell, NODE, [
    ...['sh', '-c', '[ -e "/sys/class/infiniband/$1" ] || rdma link add "$1" type rxe netdev "$2"'],
    ...['sh', RDMA_DEVICE, NETDEV],
  ]);
}

/** Whether the device's management queue pair works. */
export async function isDeviceSound(shell: GuestShell): Promise<boolean> {
  return managementQueuePairLives(await listResources(shell, NODE, undefined));
}

/** Makes the device anew if its management queue pair is dead: nothing else heals it. True if it had to. */
export async function healDevice(shell: GuestShell): Promise<boolean> {
  if (await isDeviceSound(shell)) return false;
  await deleteDevice(shell);
  await addDevice(shell);
  return true;
}
