import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ApiServer, type ApiServerPlan, planApiServer } from './control-plane/api-server.ts';
import { CONTROL_PLANE, startControlPlane, stopControlPlane } from './control-plane/cluster.ts';
import { nodeEnvironment, writeNodeFiles } from './control-plane/node-files.ts';
import { isNodeReady, type NodeObject } from './control-plane/node-readiness.ts';
import { LabError } from './errors.ts';
import { chooseAccelerator } from './guests/accelerator.ts';
import type { GuestProcess, GuestResult } from './guests/agent-client.ts';
import { Guest, type GuestParts } from './guests/guest.ts';
import { guestNames, planGuest } from './guests/plan.ts';
import { hubArguments, lineArguments, lineSocket } from './guests/rdma-network.ts';
import { guestDisk } from './images/guest-disk.ts';
import { importImage } from './images/image-import.ts';
import type { ImageLayout } from './images/image-layout.ts';
import { initialRamDisk } from './images/initial-ram-disk.ts';
import { prepareNodeDisk } from './images/node-disk.ts';
import { buildWeirImage } from './images/weir-image.ts';
import { renderMonitoring } from './monitoring/chart.ts';
import type { NodeEndpoint } from './monitoring/configuration.ts';
import {
  PROMETHEUS,
  PrometheusClient,
  prometheusUrl,
  startPrometheus,
  stopPrometheus,
} from './monitoring/prometheus.ts';
import { runDirectory } from './paths.ts';
import { lineProgress, type Progress } from './progress.ts';
import { goProgram, kubernetesBinaries } from './setup/binaries.ts';
import { installPackages } from './setup/packages.ts';
import { run } from './system/command.ts';
import { daemonPid, stopDaemon } from './system/daemon.ts';
import { waitFor } from './system/wait.ts';

/** Where a link is taken down: by the guest itself, or at the cable. */
export type LinkSide = 'inside' | 'outside';

/** What `up` brings up. */
export interface LabParts {
  /** The control plane, and the nodes joined to it. Default: true. */
  cluster?: boolean;
  /** Number of Linux hosts. Default: 1. */
  hosts?: number;
  /** Number of nodes. Default: 1. */
  nodes?: number;
}

/** What a Prometheus in the lab looks at. */
export interface Monitoring {
  /** Namespace that the chart is installed in. */
  namespace: string;
  /** Values of the chart that concern monitors and alerts. */
  values?: Readonly<Record<string, string>>;
  /** What else serves metrics on nodes. */
  nodeEndpoints?: readonly NodeEndpoint[];
  /** How often rules are evaluated; for example `2s`. Default: 15s. */
  interval?: string;
}

/** What runs. */
export interface LabStatus {
  guests: { name: string; running: boolean; rdmaAddress: string; hostNqn: string }[];
  controlPlane: { name: string; running: boolean }[];
  /** Where Prometheus is, if it runs. */
  prometheus?: string;
}

/** Absolute paths of the cluster's commands, and of the administrator's kubeconfig. */
export interface ClusterTools {
  kubectl: string;
  helm: string;
  kubeconfig: string;
}

const AGENT_SOURCE = fileURLToPath(new URL('./guests/agent', import.meta.url));
const AGENT_FILES = ['go.mod', 'main.go', 'frame.go', 'execute.go', 'dial.go'];
const EXEC_TIMEOUT_SECONDS_DEFAULT = 120;
const KUBECTL_TIMEOUT_SECONDS_DEFAULT = 60;
/** A kubelet was ready 15 s after boot; a busy machine may take several times that. */
const NODE_READY_TIMEOUT_SECONDS = 240;
/** An emulated guest copies slowly on a busy machine. */
const COPY_TIMEOUT_SECONDS = 900;
/** Name of the guest whose QEMU holds the RDMA network's hub: the first to start. */
const HUB_GUEST = 'node-a';
/**
 * Under emulation a guest's kernel dies now and then while it patches itself (`Oops: int3`): QEMU's threads do not
 * see changed code as the processors' manuals promise it. Nothing has been lost when that happens in a boot.
 */
const BOOT_ATTEMPTS = 3;

/**
 * A cluster with RDMA on one machine. An object of this class is only a handle: the lab itself outlives the
 * process, and any other process may open it.
 */
export class Lab {
  readonly directory: string;
  readonly #progress: Progress;

  private constructor(log: (line: string) => void) {
    this.directory = runDirectory();
    this.#progress = lineProgress(log);
  }

  static open(options: { log?: (line: string) => void } = {}): Lab {
    return new Lab(options.log ?? (() => {}));
  }

  /** Brings up what does not run yet, and waits until all of it is ready. Safe to repeat. */
  async up(parts: LabParts = {}): Promise<void> {
    await installPackages(this.#progress);
    const nodes = guestNames('node', parts.nodes ?? 1);
    const guests = [...nodes, ...guestNames('host', parts.hosts ?? 1)].map((name) => this.guest(name));
    const cluster = parts.cluster ?? true;
    await this.#makeWhatIsCached(cluster);
    if (cluster) {
      // Certificates and ports are settled first; then the control plane starts while the guests boot.
      const apiServer = await planApiServer(this.#controlPlane);
      await Promise.all([this.#startControlPlane(), this.#startGuests(guests, apiServer)]);
      await this.#progress.step('wait for the nodes to be ready', () => this.#nodesReady(nodes));
    } else {
      await this.#startGuests(guests, undefined);
    }
  }

  /** Ends everything that runs. Logs stay until the next `up`. */
  async down(): Promise<void> {
    await Promise.all(this.#knownGuests().map((guest) => guest.stop()));
    await stopPrometheus(this.#prometheus);
    await stopControlPlane(this.#controlPlane);
    if (existsSync(this.#controlPlane)) {
      for (const name of readdirSync(this.#controlPlane).filter((file) => !file.endsWith('.log'))) {
        rmSync(join(this.#controlPlane, name), { recursive: true, force: true });
      }
    }
  }

  status(): LabStatus {
    return {
      guests: this.#knownGuests().map((guest) => ({
        name: guest.plan.name,
        running: guest.running,
        rdmaAddress: guest.plan.rdmaAddress,
        hostNqn: guest.plan.hostNqn,
      })),
      controlPlane: CONTROL_PLANE.map((name) => ({
        name,
        running: daemonPid(this.#controlPlane, name) !== undefined,
      })),
      ...(daemonPid(this.#prometheus, PROMETHEUS) === undefined
        ? {}
        : { prometheus: prometheusUrl(this.#prometheus) }),
    };
  }

  /**
   * Starts a Prometheus that looks at the cluster as the chart's monitors and rules say, in place of one that runs.
   * The cluster must be up.
   */
  async startPrometheus(monitoring: Monitoring): Promise<PrometheusClient> {
    const { helm } = await this.tools();
    const url = await this.#progress.step('start Prometheus', async () =>
      startPrometheus({
        directory: runDirectory(PROMETHEUS),
        controlPlane: this.#controlPlane,
        plan: {
          manifests: await renderMonitoring(helm, monitoring.namespace, monitoring.values),
          nodeEndpoints: monitoring.nodeEndpoints ?? [],
          interval: monitoring.interval ?? '15s',
        },
        progress: this.#progress,
      }),
    );
    return new PrometheusClient(url);
  }

  /** Ends Prometheus; its log stays. */
  async stopPrometheus(): Promise<void> {
    await stopPrometheus(this.#prometheus);
  }

  /** Runs a command in a guest to its end. */
  exec(
    guest: string,
    argv: readonly string[],
    options: { timeoutSeconds?: number; input?: string | Buffer } = {},
  ): Promise<GuestResult> {
    return this.guest(guest).exec(argv, {
      timeoutSeconds: options.timeoutSeconds ?? EXEC_TIMEOUT_SECONDS_DEFAULT,
      ...(options.input === undefined ? {} : { input: options.input }),
    });
  }

  /** Starts a command in a guest and passes on its output as it comes. */
  spawn(
    guest: string,
    argv: readonly string[],
    output: { stdout: (chunk: Buffer) => void; stderr: (chunk: Buffer) => void },
  ): GuestProcess {
    return this.guest(guest).spawn(argv, output);
  }

  /** Takes the RDMA link of a guest down or up. */
  async link(guest: string, state: 'up' | 'down', options: { from?: LinkSide } = {}): Promise<void> {
    if ((options.from ?? 'inside') === 'outside') {
      await this.guest(guest).setCarrier(state === 'up');
      return;
    }
    const argv = ['ip', 'link', 'set', 'rdma0', state];
    requireSuccess(guest, argv, await this.exec(guest, argv));
  }

  /** Stops a guest's processors, as if the machine hung. */
  freeze(guest: string): Promise<void> {
    return this.guest(guest).freeze();
  }

  /** Lets a frozen guest go on. */
  thaw(guest: string): Promise<void> {
    return this.guest(guest).thaw();
  }

  /** Kubeconfig of a cluster administrator, for clients on the machine. */
  get kubeconfigPath(): string {
    return join(this.#controlPlane, 'kubeconfig');
  }

  get #controlPlane(): string {
    return join(this.directory, 'control-plane');
  }

  get #prometheus(): string {
    return join(this.directory, PROMETHEUS);
  }

  get #guestsDirectory(): string {
    return join(this.directory, 'guests');
  }

  /** Holds the logs of everything that runs, and of the last run after `down`. */
  get logsDirectory(): string {
    return this.directory;
  }

  /** Logs by name: `kube-apiserver`, …, `node-a/console`, `node-a/qemu`. */
  logs(): Record<string, string> {
    const found: [string, string][] = [this.#controlPlane, this.#prometheus].flatMap((directory) =>
      logFiles(directory).map((file): [string, string] => [basename(file, '.log'), join(directory, file)]),
    );
    for (const guest of this.#knownGuests()) {
      for (const file of logFiles(guest.directory)) {
        found.push([`${guest.plan.name}/${basename(file, '.log')}`, join(guest.directory, file)]);
      }
    }
    return Object.fromEntries(found);
  }

  /** The commands that go with the cluster's version; builds them if they are not in the cache. */
  async tools(): Promise<ClusterTools> {
    const binaries = await kubernetesBinaries(this.#progress, ['kubectl', 'helm']);
    return {
      kubectl: join(binaries, 'kubectl'),
      helm: join(binaries, 'helm'),
      kubeconfig: this.kubeconfigPath,
    };
  }

  /** Builds the repository's Dockerfile. Nodes that boot later have most of the image already. */
  async buildImage(tag?: string): Promise<ImageLayout> {
    await installPackages(this.#progress);
    const layout = await buildWeirImage(this.#progress, tag);
    await prepareNodeDisk(this.#progress, layout);
    return layout;
  }

  /** Puts an image into all nodes that run. */
  async loadImage(layout: ImageLayout): Promise<void> {
    const nodes = this.#knownGuests().filter((guest) => guest.running && guest.plan.role === 'node');
    const names = nodes.map(({ plan }) => plan.name).join(', ');
    await this.#progress.step(`load the image into ${names}`, async () => {
      await Promise.all(nodes.map((guest) => importImage(guest, layout)));
    });
  }

  /** Copies a file of the machine into a guest. */
  async copyToGuest(guest: string, source: string, target: string): Promise<void> {
    await this.guest(guest).withSharedFile(source, async (path) => {
      const argv = ['cp', path, target];
      requireSuccess(guest, argv, await this.exec(guest, argv, { timeoutSeconds: COPY_TIMEOUT_SECONDS }));
    });
  }

  /** Takes the API server away, as a failing control plane does; `up` brings it back on the same address. */
  async stopApiServer(): Promise<void> {
    await stopDaemon(this.#controlPlane, 'kube-apiserver');
  }

  /** Runs kubectl as the cluster's administrator and returns its standard output. */
  async kubectl(
    args: readonly string[],
    options: { timeoutSeconds?: number; input?: string } = {},
  ): Promise<string> {
    const binaries = await kubernetesBinaries(this.#progress, ['kubectl']);
    return run([join(binaries, 'kubectl'), '--kubeconfig', this.kubeconfigPath, ...args], {
      timeoutSeconds: options.timeoutSeconds ?? KUBECTL_TIMEOUT_SECONDS_DEFAULT,
      ...(options.input === undefined ? {} : { input: options.input }),
    });
  }

  /** A guest by its name, whether it runs or not. */
  guest(name: string): Guest {
    return new Guest(planGuest(name), join(this.#guestsDirectory, name));
  }

  /** The long work of a first run. The packages wait for the network while the compiler has the processors. */
  async #makeWhatIsCached(cluster: boolean): Promise<void> {
    await Promise.all([guestDisk(this.#progress), cluster ? kubernetesBinaries(this.#progress) : undefined]);
  }

  #startControlPlane(): Promise<ApiServer> {
    const where = { directory: this.#controlPlane, guests: this.#guestsDirectory };
    const running = CONTROL_PLANE.every((name) => daemonPid(this.#controlPlane, name) !== undefined);
    const start = (): Promise<ApiServer> => startControlPlane(where, this.#progress);
    return running ? start() : this.#progress.step('start the control plane', start);
  }

  /** A node is ready when its kubelet says so and its RDMA devices are on offer. */
  async #nodesReady(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const path = ['get', 'node', name, '--output', 'json'];
      await waitFor(
        async () => {
          const node = await this.kubectl(path).catch(() => undefined);
          return node !== undefined && isNodeReady(JSON.parse(node) as NodeObject);
        },
        {
          what: `${name} to be ready`,
          timeoutSeconds: NODE_READY_TIMEOUT_SECONDS,
          intervalMilliseconds: 500,
        },
      );
    }
  }

  async #startGuests(guests: readonly Guest[], apiServer: ApiServerPlan | undefined): Promise<void> {
    const joined = (guest: Guest): boolean =>
      apiServer === undefined || guest.plan.role === 'host' || guest.joined;
    if (guests.every((guest) => guest.running && joined(guest))) {
      await Promise.all(guests.map((guest) => guest.ready()));
      return;
    }
    await this.#stopWhatCannotStay(apiServer !== undefined);
    const progress = this.#progress;
    const disk = await guestDisk(progress);
    const ramDisk = await initialRamDisk(disk);
    const agent = await goProgram(progress, AGENT_SOURCE, AGENT_FILES);
    const accelerator = await progress.step('choose how guests run (KVM or emulation)', () =>
      chooseAccelerator(disk.kernel, ramDisk),
    );
    const network = join(this.directory, 'network');
    const boot = async (): Promise<void> => {
      if (!this.guest(HUB_GUEST).running) {
        // Sockets of a hub that is gone would be taken for those of the next.
        rmSync(network, { recursive: true, force: true });
      }
      mkdirSync(network, { recursive: true, mode: 0o700 });
      for (const guest of guests) {
        const isHub = guest.plan.name === HUB_GUEST;
        const line = lineSocket(network, guest.plan.number);
        if (!isHub) {
          await waitFor(() => existsSync(line), {
            what: `the hub of the RDMA network`,
            timeoutSeconds: 20,
          });
        }
        const joins = apiServer !== undefined && guest.plan.role === 'node' && !guest.running;
        if (joins) {
          const directory = guest.clusterFiles;
          await writeNodeFiles({ directory, plan: guest.plan, apiServer, progress });
        }
        const parts: GuestParts = {
          ...(joins ? { environment: nodeEnvironment(apiServer) } : {}),
          disk,
          initialRamDisk: ramDisk,
          accelerator,
          agent,
          rdmaNetwork: isHub ? hubArguments(network) : lineArguments(network, guest.plan.number),
        };
        await guest.start(parts);
      }
      await Promise.all(guests.map((guest) => guest.ready()));
    };
    const names = guests.map((guest) => guest.plan.name).join(', ');
    for (let attempt = 1; ; attempt += 1) {
      const started = guests.filter((guest) => !guest.running);
      try {
        return await progress.step(`boot ${names} (${accelerator.name})`, boot);
      } catch (error) {
        const panicked = error instanceof LabError && error.code === 'GuestPanicked';
        if (!panicked || attempt === BOOT_ATTEMPTS) throw error;
        await Promise.all(started.map((guest) => guest.stop()));
      }
    }
  }

  /**
   * A node that was booted without the cluster has to boot again; and when the guest with the RDMA network's hub
   * is not there, the others' lines to it are dead.
   */
  async #stopWhatCannotStay(cluster: boolean): Promise<void> {
    const running = this.#knownGuests().filter((guest) => guest.running);
    const hub = running.find((guest) => guest.plan.name === HUB_GUEST);
    const outside = running.filter((guest) => cluster && guest.plan.role === 'node' && !guest.joined);
    const stopped = hub === undefined || outside.includes(hub) ? running : outside;
    await Promise.all(stopped.map((guest) => guest.stop()));
  }

  #knownGuests(): Guest[] {
    const directory = this.#guestsDirectory;
    return existsSync(directory) ? readdirSync(directory).map((name) => this.guest(name)) : [];
  }
}

function logFiles(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).filter((file) => file.endsWith('.log')) : [];
}

function requireSuccess(guest: string, argv: readonly string[], result: GuestResult): void {
  if (result.exitCode !== 0) {
    const said = (result.stderr || result.stdout).trim();
    throw new LabError('GuestFailed', `${guest}: ${argv.join(' ')}: exit ${result.exitCode}: ${said}`);
  }
}
