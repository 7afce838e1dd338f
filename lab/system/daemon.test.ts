import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { daemonNames, daemonPid, requireDaemon, startDaemon, stopDaemon } from './daemon.ts';
import { waitFor } from './wait.ts';

let directory: string;
let log: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'weir-lab-daemon-'));
  log = join(directory, 'log');
});

afterEach(async () => {
  await Promise.all(daemonNames(directory).map((name) => stopDaemon(directory, name, 0)));
  rmSync(directory, { recursive: true });
});

/** A process that has ended is defunct until its parent, this one, has heard of it. */
async function processGone(pid: number): Promise<void> {
  const gone = (): boolean => {
    try {
      process.kill(pid, 0);
      return false;
    } catch {
      return true;
    }
  };
  await waitFor(gone, { what: `process ${pid} to be gone`, timeoutSeconds: 10 });
}

test('a second start keeps the process that runs', () => {
  const start = (): number => startDaemon({ name: 'sleeper', argv: ['sleep', '60'], directory, log });
  expect(start()).toBe(start());
});

test('stop ends the process and forgets it', async () => {
  const pid = startDaemon({ name: 'sleeper', argv: ['sleep', '60'], directory, log });
  await stopDaemon(directory, 'sleeper');
  await processGone(pid);
  expect(daemonNames(directory)).toEqual([]);
});

test('stop ends a process that ignores the polite signal', async () => {
  const argv = ['sh', '-c', 'trap "" TERM; echo armed; while :; do sleep 1; done'] as const;
  const pid = startDaemon({ name: 'stubborn', argv, directory, log });
  await stopDaemon(directory, 'stubborn', 0.3);
  await processGone(pid);
});

test('a process id that another process got meanwhile is not ours', () => {
  writeFileSync(join(directory, 'old.pid'), JSON.stringify({ pid: process.pid, startTime: '1' }));
  expect(daemonPid(directory, 'old')).toBeUndefined();
});

test('what a process said before it ended is in the error', async () => {
  startDaemon({ name: 'brief', argv: ['sh', '-c', 'echo no such device; exit 1'], directory, log });
  await waitFor(() => daemonPid(directory, 'brief') === undefined, { what: 'the end', timeoutSeconds: 10 });
  expect(() => requireDaemon(directory, 'brief', log)).toThrow('no such device');
});
