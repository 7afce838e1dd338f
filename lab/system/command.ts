import { createWriteStream } from 'node:fs';
import { execa } from 'execa';
import { LabError } from '../errors.ts';

/** How to run one command to its end. */
export interface CommandOptions {
  /** Limit on the run; the command is ended when it is over. */
  timeoutSeconds: number;
  cwd?: string;
  /** Added to the environment of this process. */
  env?: Record<string, string>;
  /** Standard input; none when absent. */
  input?: string;
  /** Both outputs are appended here as well. */
  log?: string;
}

/** Runs a command to its end and returns its standard output without the last newline. */
export async function run(argv: readonly [string, ...string[]], options: CommandOptions): Promise<string> {
  const [file, ...args] = argv;
  const subprocess = execa(file, args, {
    reject: false,
    timeout: options.timeoutSeconds * 1000,
    forceKillAfterDelay: 2000,
    maxBuffer: 64 * 1024 * 1024,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }),
  });
  if (options.log !== undefined) {
    const log = createWriteStream(options.log, { flags: 'a' });
    log.write(`$ ${argv.join(' ')}\n`);
    subprocess.stdout?.pipe(log, { end: false });
    subprocess.stderr?.pipe(log, { end: false });
    void subprocess.finally(() => log.end());
  }
  const result = await subprocess;
  if (result.timedOut) {
    throw new LabError('TimedOut', `${file} did not end within ${options.timeoutSeconds} s`, logOf(options));
  }
  if (result.failed) {
    const said = lastLines(String(result.stderr ?? '') || String(result.stdout ?? ''), 5);
    const how = result.exitCode === undefined ? (result.shortMessage ?? 'failed') : `exit ${result.exitCode}`;
    throw new LabError('CommandFailed', `${argv.slice(0, 4).join(' ')}: ${how}: ${said}`, logOf(options));
  }
  return String(result.stdout ?? '');
}

function logOf(options: CommandOptions): { log?: string } {
  return options.log === undefined ? {} : { log: options.log };
}

/** The last lines of a text, for a message. */
export function lastLines(text: string, count: number): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}
