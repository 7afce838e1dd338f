/** The same fio on Weir and on the kernel's own target, on the same guests, one after the other. */
import { type FioResult, startFio } from './fio.ts';
import { KERNEL_TARGET_NQN, startKernelTarget, stopKernelTarget } from './kernel-target.ts';
import type { MainPath } from './main-path.ts';
import { waitUntil } from './wait-until.ts';

/** Namespace of the example that is kept in memory, as the kernel target's RAM disk is. */
const MEMORY_NSID = 2;
const KERNEL_TARGET_PORT = 4421;
const RAM_DISK_KIB = 64 * 1024;
const RUNTIME_SECONDS = 10;

/** IOPS and mean latency of 4 KiB random reads and writes at depth 4, for both targets. */
export async function compareWithKernelTarget(path: MainPath, node: string): Promise<Record<string, number>> {
  const weir = (await path.host.namespaces(path.target.nqn)).find((one) => one.nsid === MEMORY_NSID);
  if (weir === undefined) throw new Error(`the host does not see namespace ${MEMORY_NSID}`);
  const kernelAddress = { ...path.address, port: KERNEL_TARGET_PORT };
  await startKernelTarget(path.shell, node, kernelAddress, RAM_DISK_KIB);
  try {
    await path.host.connect(kernelAddress, KERNEL_TARGET_NQN);
    const [kernel] = await path.host.waitForNamespaces(KERNEL_TARGET_NQN, [1]);
    if (kernel === undefined) throw new Error('the kernel target shows no namespace');
    return {
      ...(await measure(path, 'weir', weir.device)),
      ...(await measure(path, 'nvmet', kernel.device)),
    };
  } finally {
    await path.host.disconnect(KERNEL_TARGET_NQN);
    await waitUntil(
      'the host to leave the kernel target',
      async () => (await path.host.controllers(KERNEL_TARGET_NQN)).length === 0 || undefined,
      { timeoutSeconds: 60 },
    );
    await stopKernelTarget(path.shell, node);
  }
}

async function measure(path: MainPath, name: string, device: string): Promise<Record<string, number>> {
  const run = (mode: 'randread' | 'randwrite'): Promise<FioResult> =>
    startFio(path.shell, path.host.guest, {
      device,
      runtimeSeconds: RUNTIME_SECONDS,
      blockSizeBytes: 4096,
      ioDepth: 4,
      sizeBytes: RAM_DISK_KIB * 1024,
      mode,
    }).result;
  const read = await run('randread');
  const write = await run('randwrite');
  return {
    [`${name}ReadIops`]: Math.round(read.readIops),
    [`${name}ReadLatencyMicroseconds`]: Math.round(read.meanLatencyMicroseconds),
    [`${name}WriteIops`]: Math.round(write.writeIops),
    [`${name}WriteLatencyMicroseconds`]: Math.round(write.meanLatencyMicroseconds),
  };
}
