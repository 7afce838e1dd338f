import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LabError } from '../errors.ts';
import type { GuestDisk } from '../images/guest-disk.ts';
import { createNodeDisk } from '../images/node-disk.ts';
import { daemonPid, requireDaemon, startDaemon, stopDaemon } from '../system/daemon.ts';
import { freePorts } from '../system/ports.ts';
import { waitFor } from '../system/wait.ts';
import type { Accelerator } from './accelerator.ts';
import { type AgentAddress, GuestProcess, type GuestResult, runInGuest } from './agent-client.ts';
import { kernelPanic } from './kernel-panic.ts';
import type { GuestPlan } from './plan.ts';
import { qmp } from './qmp.ts';

const BOOT_DIRECTORY = fileURLToPath(new URL('./boot/', import.meta.url));
const AGENT_PORT = 7700;
/** Network device of the guest's RDMA network, as QEMU knows it. */
const RDMA_DEVICE = 'rdma-nic';
/** A busy machine has been seen to need a minute and a half under emulation. */
const BOOT_TIMEOUT_SECONDS = 300;

/**
 * `tsc=reliable`: a machine that is busy makes the kernel think its clock unstable, and it then patches its own code on
 * running processors, which does not always go well under emulation (`Oops: int3` in `sched_clock_cpu`).
 */
const KERNEL_ARGUMENTS =
  'console=ttyS0 loglevel=4 net.ifnames=0 mitigations=off audit=0 panic=-1 tsc=reliable';

/** What a guest is started with. */
export interface GuestParts {
  disk: GuestDisk;
  initialRamDisk: string;
  accelerator: Accelerator;
  agent: string;
  /** QEMU's arguments for the network device `rdma`. */
  rdmaNetwork: readonly string[];
  /** Added to what the guest's boot script knows. */
  environment?: Record<string, string>;
}

/** One guest: a QEMU process and its files in a directory. */
export class Guest {
  readonly plan: GuestPlan;
  readonly directory: string;
  readonly consoleLog: string;

  constructor(plan: GuestPlan, directory: string) {
    this.plan = plan;
    this.directory = directory;
    this.consoleLog = join(directory, 'console.log');
  }

  /** Files that the guest sees, read-only, under `/lab`. */
  get share(): string {
    return join(this.directory, 'share');
  }

  /** What a node needs to join the cluster; there before it starts if it is to join. */
  get clusterFiles(): string {
    return join(this.share, 'kubernetes');
  }

  /** Whether the guest was started to join the cluster. */
  get joined(): boolean {
    return existsSync(this.clusterFiles);
  }

  get running(): boolean {
    return daemonPid(this.directory, 'qemu') !== undefined;
  }

  get address(): AgentAddress {
    try {
      const port = Number(readFileSync(join(this.directory, 'agent-port'), 'utf8'));
      const token = readFileSync(join(this.share, 'token'), 'utf8').trim();
      return { guest: this.plan.name, port, token };
    } catch (error) {
      throw new LabError('NotRunning', `${this.plan.name} is not up: npm run lab -- up`, { cause: error });
    }
  }

  /** Starts the guest unless it runs; does not wait for it. */
  async start(parts: GuestParts): Promise<void> {
    if (this.running) {
      return;
    }
    const [port] = await freePorts(1);
    await this.#prepare(parts, String(port));
    startDaemon({
      name: 'qemu',
      directory: this.directory,
      log: this.#qemuLog,
      // QEMU puts the throw-away layer over the root disk here.
      env: { TMPDIR: this.directory },
      argv: ['qemu-system-x86_64', ...this.#arguments(parts, port ?? 0)],
    });
  }

  /**
   * Waits until everything that the guest's role needs runs in it.
   *
   * @throws LabError `GuestPanicked` if its kernel died, `ProcessEnded` if QEMU ended otherwise, `TimedOut`.
   */
  async ready(): Promise<void> {
    await waitFor(
      async () => {
        this.#requireAlive();
        try {
          const result = await runInGuest(this.address, ['test', '-e', '/run/ready'], { timeoutSeconds: 5 });
          return result.exitCode === 0;
        } catch {
          return false;
        }
      },
      {
        what: `${this.plan.name} to boot`,
        timeoutSeconds: BOOT_TIMEOUT_SECONDS,
        intervalMilliseconds: 250,
        log: this.consoleLog,
      },
    );
  }

  exec(
    argv: readonly string[],
    options: { timeoutSeconds: number; input?: string | Buffer },
  ): Promise<GuestResult> {
    return runInGuest(this.address, argv, options).catch((error: unknown) => {
      this.#requireNoPanic();
      throw error;
    });
  }

  spawn(
    argv: readonly string[],
    output: { stdout: (chunk: Buffer) => void; stderr: (chunk: Buffer) => void },
  ): GuestProcess {
    return new GuestProcess(this.address, argv, output);
  }

  /** Lets the guest see a file of the machine while some work is done; the work gets its path in the guest. */
  async withSharedFile<T>(source: string, work: (path: string) => Promise<T>): Promise<T> {
    const name = randomBytes(8).toString('hex');
    const shared = join(this.share, name);
    try {
      linkSync(source, shared);
    } catch {
      // On another file system.
      copyFileSync(source, shared);
    }
    try {
      return await work(`/lab/${name}`);
    } finally {
      rmSync(shared, { force: true });
    }
  }

  /** Takes away or gives back the carrier of the RDMA network, as pulling the cable does. */
  async setCarrier(up: boolean): Promise<void> {
    await qmp(this.#qmpSocket, 'set_link', { name: RDMA_DEVICE, up });
  }

  /** Stops the guest's processors, as if the machine hung; `thaw` lets them go on. */
  async freeze(): Promise<void> {
    await qmp(this.#qmpSocket, 'stop');
  }

  async thaw(): Promise<void> {
    await qmp(this.#qmpSocket, 'cont');
  }

  /** Ends the guest at once, as pulling the power does, and forgets its disks; logs stay. */
  async stop(): Promise<void> {
    await stopDaemon(this.directory, 'qemu');
    for (const name of ['data.img', 'share', 'agent-port', 'qmp.sock']) {
      rmSync(join(this.directory, name), { recursive: true, force: true });
    }
  }

  get #qemuLog(): string {
    return join(this.directory, 'qemu.log');
  }

  #requireAlive(): void {
    this.#requireNoPanic();
    requireDaemon(this.directory, 'qemu', this.#qemuLog);
  }

  /** QEMU ends when the guest's kernel panics: its console says then why, QEMU itself nothing. */
  #requireNoPanic(): void {
    if (!this.running && existsSync(this.consoleLog)) {
      const panic = kernelPanic(readFileSync(this.consoleLog, 'utf8'));
      if (panic !== undefined) {
        throw new LabError('GuestPanicked', `the kernel of ${this.plan.name} died: ${panic}`, {
          log: this.consoleLog,
        });
      }
    }
  }

  get #qmpSocket(): string {
    return join(this.directory, 'qmp.sock');
  }

  async #prepare(parts: GuestParts, port: string): Promise<void> {
    mkdirSync(this.share, { recursive: true, mode: 0o700 });
    if (parts.environment === undefined) {
      // Left behind by a node that ended by itself.
      rmSync(this.clusterFiles, { recursive: true, force: true });
    }
    cpSync(BOOT_DIRECTORY, this.share, { recursive: true });
    copyFileSync(parts.agent, join(this.share, 'agent'));
    chmodSync(join(this.share, 'agent'), 0o755);
    writeFileSync(join(this.share, 'token'), randomBytes(16).toString('hex'), { mode: 0o600 });
    writeFileSync(join(this.share, 'machine-id'), `${this.plan.hostId.replaceAll('-', '')}\n`);
    writeFileSync(join(this.share, 'guest.env'), environmentOf(this.plan, parts.environment ?? {}));
    writeFileSync(join(this.directory, 'agent-port'), port);
    // What earlier guests of this name said would be taken for the cause, if this one ends.
    rmSync(this.consoleLog, { force: true });
    rmSync(this.#qemuLog, { force: true });
    if (this.plan.role === 'node') {
      await createNodeDisk(join(this.directory, 'data.img'));
    }
  }

  #arguments(parts: GuestParts, agentPort: number): string[] {
    const { plan } = this;
    const management = `${plan.managementAddress}:${AGENT_PORT}`;
    const data = join(this.directory, 'data.img');
    return [
      ...['-name', `weir-lab-${plan.name}`, ...parts.accelerator.arguments],
      ...['-machine', 'q35', '-smp', String(plan.cpus), '-m', String(plan.memoryMiB)],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
      ...['-serial', `file:${this.consoleLog}`, '-qmp', `unix:${this.#qmpSocket},server=on,wait=off`],
      ...['-kernel', parts.disk.kernel, '-initrd', parts.initialRamDisk],
      ...['-append', KERNEL_ARGUMENTS],
      ...['-device', 'virtio-rng-pci'],
      ...['-drive', `if=none,id=root,file=${parts.disk.root},format=raw,snapshot=on,cache=unsafe`],
      ...['-device', 'virtio-blk-pci,drive=root'],
      ...(existsSync(data)
        ? [
            ...['-drive', `if=none,id=data,file=${data},format=raw,cache=unsafe,discard=unmap`],
            ...['-device', 'virtio-blk-pci,drive=data,serial=data'],
          ]
        : []),
      ...['-virtfs', `local,path=${this.share},mount_tag=lab,security_model=none,readonly=on`],
      ...['-netdev', `user,id=management,net=10.0.2.0/24,hostfwd=tcp:127.0.0.1:${agentPort}-${management}`],
      ...['-device', `virtio-net-pci,netdev=management,mac=${plan.managementMac},romfile=`],
      ...parts.rdmaNetwork,
      ...[
        '-device',
        `virtio-net-pci,id=${RDMA_DEVICE},netdev=rdma,mac=${plan.rdmaMac},host_mtu=4200,romfile=`,
      ],
    ];
  }
}

/** The file from which boot.sh learns who the guest is. */
function environmentOf(plan: GuestPlan, more: Record<string, string>): string {
  const values: Record<string, string> = {
    GUEST_NAME: plan.name,
    GUEST_ROLE: plan.role,
    MANAGEMENT_ADDRESS: plan.managementAddress,
    MANAGEMENT_MAC: plan.managementMac,
    RDMA_ADDRESS: plan.rdmaAddress,
    RDMA_ADDRESS_IPV6: plan.rdmaAddressIPv6,
    RDMA_MAC: plan.rdmaMac,
    POD_RANGE: plan.podRange,
    HOST_NQN: plan.hostNqn,
    HOST_ID: plan.hostId,
    ...more,
  };
  return Object.entries(values)
    .map(([name, value]) => `${name}='${value}'\n`)
    .join('');
}
