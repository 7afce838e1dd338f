import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { LabError } from '../errors.ts';
import { lastLines } from './command.ts';
import { sleep, waitFor } from './wait.ts';

/** A process that outlives the command that started it, known by a file `NAME.pid` in a directory. */
export interface DaemonOptions {
  name: string;
  argv: readonly [string, ...string[]];
  /** Holds `NAME.pid`. */
  directory: string;
  /** Both outputs go here. */
  log: string;
  env?: Record<string, string>;
  cwd?: string;
  /** End the process when the one that started it ends (for tests). */
  tiedToParent?: boolean;
}

/** Starts the process unless it runs already. */
export function startDaemon(options: DaemonOptions): number {
  const running = daemonPid(options.directory, options.name);
  if (running !== undefined) {
    return running;
  }
  const output = openSync(options.log, 'a', 0o600);
  try {
    const argv = options.tiedToParent
      ? ['setpriv', '--pdeathsig', 'KILL', '--', ...options.argv]
      : [...options.argv];
    const [file, ...args] = argv;
    const child = spawn(file ?? '', args, {
      detached: true,
      stdio: ['ignore', output, output],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: { ...process.env, ...options.env },
    });
    // Without a listener a missing program would end this process; the wait for readiness tells it instead.
    child.on('error', (error) => writeFileSync(options.log, `${error.message}\n`, { flag: 'a' }));
    child.unref();
    if (child.pid === undefined) {
      throw new LabError('MissingTool', `cannot start ${options.argv[0]}`, { log: options.log });
    }
    const record = { pid: child.pid, startTime: startTimeOf(child.pid) };
    writeFileSync(pidFile(options.directory, options.name), JSON.stringify(record), { mode: 0o600 });
    return child.pid;
  } finally {
    closeSync(output);
  }
}

/** The process's id if it runs. A recycled process id is told apart by the start time. */
export function daemonPid(directory: string, name: string): number | undefined {
  let record: { pid: number; startTime: string | undefined };
  try {
    record = JSON.parse(readFileSync(pidFile(directory, name), 'utf8'));
  } catch {
    return undefined;
  }
  return record.startTime !== undefined && startTimeOf(record.pid) === record.startTime
    ? record.pid
    : undefined;
}

/** Names of all processes recorded in a directory, running or not. */
export function daemonNames(directory: string): string[] {
  return existsSync(directory)
    ? readdirSync(directory)
        .filter((file) => file.endsWith('.pid'))
        .map((file) => basename(file, '.pid'))
    : [];
}

/** Ends the process: politely, then by force. Returns when it is gone. */
export async function stopDaemon(directory: string, name: string, graceSeconds = 5): Promise<void> {
  const pid = daemonPid(directory, name);
  if (pid !== undefined) {
    signal(pid, 'SIGTERM');
    const deadline = Date.now() + graceSeconds * 1000;
    while (daemonPid(directory, name) !== undefined && Date.now() < deadline) {
      await sleep(50);
    }
    if (daemonPid(directory, name) !== undefined) {
      signal(pid, 'SIGKILL');
      await waitFor(() => daemonPid(directory, name) === undefined, {
        what: `${name} (process ${pid}) to end`,
        timeoutSeconds: 10,
        intervalMilliseconds: 50,
      });
    }
  }
  rmSync(pidFile(directory, name), { force: true });
}

/** Throws with the end of its log if the process has ended. */
export function requireDaemon(directory: string, name: string, log: string): void {
  if (daemonPid(directory, name) === undefined) {
    const said = existsSync(log) ? lastLines(readFileSync(log, 'utf8'), 5) : '';
    throw new LabError('ProcessEnded', `${name} ended: ${said}`, { log });
  }
}

function pidFile(directory: string, name: string): string {
  return join(directory, `${name}.pid`);
}

/** Field 22 of /proc/PID/stat (clock ticks since boot); absent for a dead or defunct process. */
function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended meanwhile.
  }
}
