/** The Linux kernel host in a guest, driven with nvme-cli and read back from sysfs. */
import { type GuestShell, mustExec } from './guest-shell.ts';
import { waitUntil } from './wait-until.ts';

/** Who the host says it is. A test that plays two hosts varies both. */
export interface HostIdentity {
  readonly nqn: string;
  readonly id: string;
}

/** Where a target listens. */
export interface TargetAddress {
  readonly address: string;
  readonly port: number;
}

/** One line of a discovery log. */
export interface DiscoveryEntry {
  readonly nqn: string;
  readonly address: string;
  readonly port: string;
}

/** A namespace as the host's block layer shows it. */
export interface HostNamespace {
  readonly nsid: number;
  /** Block device without `/dev/`, for example `nvme0n1`. */
  readonly device: string;
  readonly sizeBytes: number;
  readonly wwid: string;
}

/** Time limit of one nvme-cli call: a connect over an emulated guest takes seconds, never this long. */
const NVME_TIMEOUT_SECONDS = 90;

// Prints "<nsid> <device> <bytes> <wwid>" for each namespace of the subsystem. Head devices only: with native multipath
// the paths (nvmeXcYnZ) are hidden and have no node in /dev.
const LIST_NAMESPACES = `
for s in /sys/class/nvme-subsystem/*; do
  [ -r "$s/subsysnqn" ] && [ "$(cat "$s/subsysnqn")" = "$1" ] || continue
  for n in "$s"/nvme*n*; do
    d=\${n##*/}
    [ -b "/dev/$d" ] || continue
    echo "$(cat "/sys/block/$d/nsid") $d $(( $(cat "/sys/block/$d/size") * 512 )) $(cat "/sys/block/$d/wwid")"
  done
done`;

// Prints "<controller> <state>" for each controller of the subsystem.
const LIST_CONTROLLERS = `
for c in /sys/class/nvme/nvme*; do
  [ -r "$c/subsysnqn" ] && [ "$(cat "$c/subsysnqn")" = "$1" ] || continue
  echo "\${c##*/} $(cat "$c/state")"
done`;

// The controller's address attribute holds "traddr=…,trsvcid=…".
const DISCONNECT_FROM = `
for c in /sys/class/nvme/nvme*; do
  case "$(cat "$c/address" 2>/dev/null)," in *"traddr=$1,"*) nvme disconnect --device="\${c##*/}" ;; esac
done
true`;

/** A kernel host in one guest. */
export class NvmeHost {
  readonly #shell: GuestShell;
  readonly guest: string;
  readonly identity: HostIdentity;

  constructor(shell: GuestShell, guest: string, identity: HostIdentity) {
    this.#shell = shell;
    this.guest = guest;
    this.identity = identity;
  }

  /** Loads what a host over RDMA needs; harmless when loaded. */
  async prepare(): Promise<void> {
    await this.#run(['modprobe', 'nvme-rdma']);
  }

  /** What the target's discovery subsystem shows this host. */
  async discover(target: TargetAddress): Promise<DiscoveryEntry[]> {
    const text = await this.#run(['nvme', 'discover', ...this.#addressed(target), '--output-format=json']);
    const log = JSON.parse(text) as { records?: { subnqn: string; traddr: string; trsvcid: string }[] };
    return (log.records ?? []).map((record) => ({
      nqn: record.subnqn,
      address: record.traddr,
      port: record.trsvcid.trim(),
    }));
  }

  /** Connects; the promise fails with what nvme-cli said. Flap-friendly times: keep-alive 5 s, reconnect 1 s. */
  async connect(
    target: TargetAddress,
    nqn: string,
    options: { ioQueues?: number; hostKey?: string; controllerKey?: string } = {},
  ): Promise<void> {
    await this.#run([
      'nvme',
      'connect',
      ...this.#addressed(target),
      `--nqn=${nqn}`,
      '--keep-alive-tmo=5',
      '--reconnect-delay=1',
      '--ctrl-loss-tmo=600',
      `--nr-io-queues=${options.ioQueues ?? 2}`,
      ...(options.hostKey === undefined ? [] : [`--dhchap-secret=${options.hostKey}`]),
      ...(options.controllerKey === undefined ? [] : [`--dhchap-ctrl-secret=${options.controllerKey}`]),
    ]);
  }

  /** Disconnects every controller of the subsystem; harmless when there is none. */
  async disconnect(nqn: string): Promise<void> {
    await this.#run(['nvme', 'disconnect', `--nqn=${nqn}`]);
  }

  /** Disconnects the controllers at one address, whatever they are connected to; harmless when there is none. */
  async disconnectFrom(address: string): Promise<void> {
    await this.#run(['sh', '-c', DISCONNECT_FROM, 'sh', address]);
  }

  /** Reads the first block of a namespace from the target: the host's cache is left out. */
  async readOnce({ device }: HostNamespace): Promise<void> {
    await this.#run(['dd', `if=/dev/${device}`, 'of=/dev/null', 'bs=4096', 'count=1', 'iflag=direct']);
  }

  /** The subsystem's namespaces now, by ascending id. */
  async namespaces(nqn: string): Promise<HostNamespace[]> {
    const lines = await this.#script(LIST_NAMESPACES, nqn);
    return lines
      .map((line) => {
        const [nsid, device, size, wwid] = line.split(' ');
        return { nsid: Number(nsid), device: device ?? '', sizeBytes: Number(size), wwid: wwid ?? '' };
      })
      .sort((a, b) => a.nsid - b.nsid);
  }

  /** Waits until exactly these namespace ids are there. */
  async waitForNamespaces(
    nqn: string,
    nsids: readonly number[],
    timeoutSeconds = 60,
  ): Promise<HostNamespace[]> {
    let seen: HostNamespace[] = [];
    return waitUntil(
      `namespaces ${nsids.join(', ')} of ${nqn} on ${this.guest}`,
      async () => {
        seen = await this.namespaces(nqn);
        return seen.map((namespace) => namespace.nsid).join() === [...nsids].sort((a, b) => a - b).join()
          ? seen
          : undefined;
      },
      { timeoutSeconds, describe: () => JSON.stringify(seen) },
    );
  }

  /** The subsystem's controllers and their states (`live`, `connecting`, `deleting`…). */
  async controllers(nqn: string): Promise<{ name: string; state: string }[]> {
    const lines = await this.#script(LIST_CONTROLLERS, nqn);
    return lines.map((line) => {
      const [name, state] = line.split(' ');
      return { name: name ?? '', state: state ?? '' };
    });
  }

  #addressed(target: TargetAddress): string[] {
    return [
      '--transport=rdma',
      `--traddr=${target.address}`,
      `--trsvcid=${target.port}`,
      `--hostnqn=${this.identity.nqn}`,
      `--hostid=${this.identity.id}`,
    ];
  }

  #run(argv: readonly string[]): Promise<string> {
    return mustExec(this.#shell, this.guest, argv, { timeoutSeconds: NVME_TIMEOUT_SECONDS });
  }

  async #script(script: string, ...args: string[]): Promise<string[]> {
    const text = await this.#run(['sh', '-c', script, 'sh', ...args]);
    return text.split('\n').filter((line) => line !== '');
  }
}
