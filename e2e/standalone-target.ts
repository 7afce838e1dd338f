/** A standalone dataplane on a node guest: the image's program with a configuration file, no cluster involved. */
import { stringify } from 'yaml';
import { type Scrape, scrapeInGuest } from './dataplane-metrics.ts';
import { type CommandResult, type GuestShell, mustExec, type RunningCommand } from './guest-shell.ts';

/** What is written to the configuration file: an object in the form of the file, or text as it is. */
export type Configuration = string | Readonly<Record<string, unknown>>;

/** How it is started, where it is not as usual. */
export interface StandaloneOptions {
  /** What its container lacks of a privileged one. */
  readonly withoutCapabilities?: readonly string[];
  /** Runs as root, as a dataplane's pod does: it may then make files where only root may. */
  readonly asRoot?: boolean;
  /** Whether it sees RDMA devices that come while it runs. Default: those that are there when it starts. */
  readonly devicesThatCome?: boolean;
  /** Whether its metrics can be scraped from outside of the node. Default: from the node only. */
  readonly metricsForAll?: boolean;
  /** Limit on locked memory that it starts with, KiB. Binding only without CAP_IPC_LOCK. */
  readonly lockedMemoryKiB?: number;
}

/** The node's own directory, in place of a copy as it was. */
const LIVE_DEVICES = ['--mount', 'type=bind,src=/dev/infiniband,dst=/dev/infiniband,options=rbind:rw'];

/** One standalone dataplane in a container on the node's network. */
export class StandaloneTarget {
  /** Lines of its log so far. */
  readonly log: string[] = [];
  readonly #shell: GuestShell;
  readonly #guest: string;
  readonly #name: string;
  readonly #metricsPort: number;
  readonly #options: StandaloneOptions;
  #running: RunningCommand | undefined;

  constructor(
    shell: GuestShell,
    guest: string,
    name: string,
    metricsPort: number,
    options: StandaloneOptions = {},
  ) {
    this.#shell = shell;
    this.#guest = guest;
    this.#name = name;
    this.#metricsPort = metricsPort;
    this.#options = options;
  }

  /** Writes the file as an editor does: beside it, then renamed over it. */
  async configure(configuration: Configuration): Promise<void> {
    const text = typeof configuration === 'string' ? configuration : stringify(configuration);
    await mustExec(
      this.#shell,
      this.#guest,
      [
        'sh',
        '-c',
        'mkdir -p "$1" /var/lib/weir && cat > "$1/.new" && mv "$1/.new" "$1/target.yaml"',
        'sh',
        this.#directory,
      ],
      { input: text },
    );
  }

  /** Starts the program; the configuration must have been written. */
  start(image: string): void {
    const host = this.#options.metricsForAll === true ? '0.0.0.0' : '127.0.0.1';
    this.#running = this.#shell.spawn(
      this.#guest,
      [
        ...['ctr', '--namespace', 'k8s.io', 'run', '--rm', '--net-host', '--privileged'],
        ...(this.#options.asRoot === true ? ['--user=0:0'] : []),
        ...(this.#options.withoutCapabilities ?? []).map((capability) => `--cap-drop=${capability}`),
        ...['--mount', `type=bind,src=${this.#directory},dst=/etc/weir,options=rbind:ro`],
        ...['--mount', 'type=bind,src=/var/lib/weir,dst=/var/lib/weir,options=rbind:rw'],
        ...(this.#options.devicesThatCome === true ? LIVE_DEVICES : []),
        ...[image, this.#name, ...limited(this.#options)],
        ...['/opt/weir/bin/weir-dataplane', '--config', '/etc/weir/target.yaml'],
        `--metrics-address=${host}:${this.#metricsPort}`,
      ],
      { onLine: (line) => this.log.push(line) },
    );
  }

  /** How it ended. */
  get finished(): Promise<CommandResult> {
    if (this.#running === undefined) throw new Error(`${this.#name} was not started`);
    return this.#running.finished;
  }

  scrape(): Promise<Scrape> {
    return scrapeInGuest(this.#shell, this.#guest, this.#metricsPort);
  }

  /** Asks it to leave, as a service manager does; its exit status. */
  async stop(): Promise<number> {
    await mustExec(this.#shell, this.#guest, [
      ...['ctr', '--namespace', 'k8s.io', 'task', 'kill', '--signal', 'SIGTERM', this.#name],
    ]);
    return (await this.finished).exitCode;
  }

  get #directory(): string {
    return `/run/weir-e2e/${this.#name}`;
  }
}

/** What goes before the program's name: a shell that lowers limits. */
function limited({ lockedMemoryKiB }: StandaloneOptions): string[] {
  if (lockedMemoryKiB === undefined) return [];
  return ['sh', '-c', 'ulimit -l "$1"; shift; exec "$@"', 'sh', String(lockedMemoryKiB)];
}
