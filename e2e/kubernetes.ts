/** kubectl and helm against the lab's cluster, as a user would type them. */
import { delimiter, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** Where kubectl finds its plugin `weir`. */
const BIN = join(ROOT, 'bin');

/** Where the tools and the cluster are. */
export interface ClusterAccess {
  readonly kubectl: string;
  readonly helm: string;
  readonly kubeconfig: string;
}

/** kubectl or helm said no. The message is what it printed. */
export class ClusterCommandError extends Error {
  readonly code = 'CLUSTER_COMMAND_FAILED';
  readonly stderr: string;

  constructor(tool: string, args: readonly string[], stderr: string) {
    super(`${tool} ${args.join(' ')}: ${stderr.trim()}`);
    this.name = 'ClusterCommandError';
    this.stderr = stderr;
  }
}

/** A cluster, driven from outside. */
export class Cluster {
  readonly #access: ClusterAccess;

  constructor(access: ClusterAccess) {
    this.#access = access;
  }

  kubectl(
    args: readonly string[],
    options: { input?: string; timeoutSeconds?: number } = {},
  ): Promise<string> {
    return this.#run('kubectl', this.#access.kubectl, args, options);
  }

  helm(args: readonly string[], options: { timeoutSeconds?: number } = {}): Promise<string> {
    return this.#run('helm', this.#access.helm, args, options);
  }

  /** Applies a manifest given as text. */
  apply(manifest: string): Promise<string> {
    return this.kubectl(['apply', '-f', '-'], { input: manifest });
  }

  /** An object or list as kubectl prints it in JSON. The caller parses what it needs. */
  async get(args: readonly string[]): Promise<unknown> {
    return JSON.parse(await this.kubectl(['get', ...args, '-o', 'json']));
  }

  /** Prints lines as objects change, until stopped; kubectl's own arguments of `get --watch`. */
  watch(args: readonly string[], onLine: (line: string) => void): { stop(): Promise<void> } {
    const { kubectl, kubeconfig } = this.#access;
    const process = execa(kubectl, ['get', ...args, '--watch'], {
      env: { KUBECONFIG: kubeconfig },
      stdin: 'ignore',
      buffer: false,
      reject: false,
    });
    createInterface({ input: process.stdout }).on('line', onLine);
    return {
      stop: async () => {
        process.kill();
        await process;
      },
    };
  }

  /** Waits for a condition, as `kubectl wait` does. */
  async waitFor(
    resource: string,
    namespace: string,
    condition: string,
    timeoutSeconds: number,
  ): Promise<void> {
    await this.kubectl(
      ['wait', `--for=${condition}`, resource, '-n', namespace, `--timeout=${timeoutSeconds}s`],
      { timeoutSeconds: timeoutSeconds + 15 },
    );
  }

  /** A line for a shell in a clone of the repository, with kubectl and helm for this cluster. */
  async shell(line: string, timeoutSeconds: number): Promise<{ exitCode: number; stderr: string }> {
    const { kubectl, helm, kubeconfig } = this.#access;
    const path = [BIN, dirname(kubectl), dirname(helm), process.env['PATH']].join(delimiter);
    const { exitCode = 255, stderr } = await execa('sh', ['-c', line], {
      cwd: ROOT,
      env: { KUBECONFIG: kubeconfig, PATH: path },
      timeout: timeoutSeconds * 1000,
      stdin: 'ignore',
      reject: false,
    });
    return { exitCode, stderr };
  }

  async #run(
    name: string,
    binary: string,
    args: readonly string[],
    options: { input?: string; timeoutSeconds?: number },
  ): Promise<string> {
    const result = await execa(binary, args, {
      env: { KUBECONFIG: this.#access.kubeconfig, PATH: [BIN, process.env['PATH']].join(delimiter) },
      timeout: (options.timeoutSeconds ?? 60) * 1000,
      reject: false,
      ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }),
    });
    if (result.failed) {
      const why = result.timedOut ? 'no answer in time' : result.stderr || result.stdout;
      throw new ClusterCommandError(name, args, String(why));
    }
    return String(result.stdout);
  }
}
