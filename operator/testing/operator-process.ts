/** weir-operator as a process of its own, as it runs in a pod. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** How to run it. */
export interface OperatorProcessOptions {
  readonly kubeconfig: string;
  /** Further arguments. */
  readonly args?: readonly string[];
  /** Milliseconds by which the wall clock of the process is ahead; monotonic clocks are not touched. */
  readonly clockSkewMs?: number;
}

interface LogLine {
  readonly msg?: string;
  readonly port?: number;
}

/** Shifts `Date` in the process that imports it, and nothing else. */
function skewedClock(milliseconds: number): string {
  const source = `
    const Real = Date;
    const now = () => Real.now() + ${milliseconds};
    globalThis.Date = class extends Real {
      constructor(...args) { if (args.length === 0) super(now()); else super(...args); }
      static now() { return now(); }
    };`;
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

/** The process. */
export class OperatorProcess {
  readonly #child: ChildProcess;
  readonly #lines: LogLine[] = [];
  /** Settles with the exit code, or the signal, when the process has ended. */
  readonly ended: Promise<number | NodeJS.Signals>;

  constructor(options: OperatorProcessOptions) {
    const main = fileURLToPath(new URL('../main.ts', import.meta.url));
    const skew = options.clockSkewMs === undefined ? [] : ['--import', skewedClock(options.clockSkewMs)];
    const args = [
      '--dataplane-image',
      'weir:test',
      '--metrics-address',
      '127.0.0.1:0',
      '--namespace',
      'default',
    ];
    this.#child = spawn(process.execPath, [...skew, main, ...args, ...(options.args ?? [])], {
      env: { ...process.env, KUBECONFIG: options.kubeconfig },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.ended = new Promise((resolve) =>
      this.#child.once('exit', (code, signal) => resolve(code ?? signal ?? 'SIGKILL')),
    );
    if (this.#child.stdout === null) throw new Error('the process has no standard output');
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      if (process.env['WEIR_TEST_LOG'] !== undefined) console.log(this.#child.pid, line);
      this.#lines.push(JSON.parse(line) as LogLine);
    });
  }

  /** Whether it said that it leads. */
  get hasLed(): boolean {
    return this.#lines.some(({ msg }) => msg === 'became leader');
  }

  /** Process id. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Sends a signal. */
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** GET of its own HTTP server, once that listens; undefined before, and when it does not answer 200. */
  async fetch(path: '/metrics' | '/readyz'): Promise<string | undefined> {
    const port = this.#lines.find((line) => line.port !== undefined)?.port;
    if (port === undefined) return undefined;
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return response.status === 200 ? await response.text() : undefined;
  }
}
