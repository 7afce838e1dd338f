import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { repositoryRoot } from './paths.ts';

/** Options of {@link runLogged} and {@link runVisible}. */
export interface ChildOptions {
  /** Added to this process's environment. */
  env?: Record<string, string>;
  /** The process and its children are killed after this time. Default: no limit. */
  timeoutSeconds?: number;
}

/** Exit code reported for a child that was killed because its time was over; as coreutils' `timeout` does. */
export const timedOutExitCode = 124;

const running = new Set<ChildProcess>();

/** Ends every child with its whole process group. Used when this process is told to stop. */
export function killChildren(signal: NodeJS.Signals): void {
  for (const child of running) killGroup(child, signal);
}

/**
 * Runs a command in the repository root with its output appended to `logFile`.
 *
 * @returns the exit code; 128 + signal number if a signal ended it, {@link timedOutExitCode} on a time-out,
 *   127 if it could not be started.
 */
export async function runLogged(
  argv: readonly string[],
  logFile: string,
  options: ChildOptions = {},
): Promise<number> {
  const log = openSync(logFile, 'a');
  try {
    writeSync(log, `$ ${argv.join(' ')}\n`);
    return await run(argv, ['ignore', log, log], true, options, (text) => writeSync(log, `${text}\n`));
  } finally {
    closeSync(log);
  }
}

/** Runs a command in the repository root on this process's terminal. Returns as {@link runLogged}. */
export async function runVisible(argv: readonly string[], options: ChildOptions = {}): Promise<number> {
  return run(argv, 'inherit', false, options, (text) => console.error(text));
}

/** The last non-empty line of a file, at most `maxLength` characters; empty when there is none. */
export function lastLine(file: string, maxLength: number): string {
  const lines = tail(file, 4096)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  return (lines.at(-1) ?? '').slice(0, maxLength);
}

/** The last `bytes` bytes of a file as text; empty if the file is not there. */
export function tail(file: string, bytes: number): string {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'r');
  } catch {
    return '';
  }
  try {
    const size = fstatSync(descriptor).size;
    const buffer = Buffer.alloc(Math.min(bytes, size));
    const read = readSync(descriptor, buffer, 0, buffer.length, size - buffer.length);
    return buffer.toString('utf8', 0, read);
  } finally {
    closeSync(descriptor);
  }
}

function run(
  argv: readonly string[],
  stdio: 'inherit' | ['ignore', number, number],
  ownGroup: boolean,
  options: ChildOptions,
  note: (text: string) => void,
): Promise<number> {
  const [command, ...args] = argv;
  if (command === undefined) throw new Error('an empty command');
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: repositoryRoot,
      stdio,
      detached: ownGroup,
      env: { ...process.env, ...options.env },
    });
    running.add(child);
    let timedOut = false;
    const timer =
      options.timeoutSeconds === undefined
        ? undefined
        : setTimeout(() => {
            timedOut = true;
            note(`killed: not finished within ${options.timeoutSeconds} s`);
            killGroup(child, 'SIGTERM');
            setTimeout(() => killGroup(child, 'SIGKILL'), 15_000).unref();
          }, options.timeoutSeconds * 1000);
    const finish = (exitCode: number): void => {
      clearTimeout(timer);
      running.delete(child);
      resolve(timedOut ? timedOutExitCode : exitCode);
    };
    child.once('error', (error) => {
      note(`cannot run ${command}: ${error.message}`);
      finish(127);
    });
    child.once('exit', (code, signal) => finish(code ?? 128 + (signal ? constants.signals[signal] : 0)));
  });
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Not the leader of a group of its own (a visible child), or gone already.
    child.kill(signal);
  }
}
