import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { LabError } from '../errors.ts';
import { sleep } from './wait.ts';

/**
 * Runs work while holding a lock file, so that two processes do not make the same thing at once.
 * A lock whose holder has died is taken over.
 */
export async function withLock<T>(path: string, timeoutSeconds: number, work: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + timeoutSeconds * 1000;
  while (!tryLock(path)) {
    if (!holderLives(path)) {
      takeAway(path);
      continue;
    }
    if (Date.now() > deadline) {
      throw new LabError('LockTimedOut', `another process has held ${path} for ${timeoutSeconds} s`);
    }
    await sleep(200);
  }
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

/** The lock appears with its holder's process id in it, in one step. */
function tryLock(path: string): boolean {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, String(process.pid), { mode: 0o600 });
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      return false;
    }
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Removes a dead holder's lock, but not the one that another process put in its place meanwhile. */
function takeAway(path: string): void {
  const aside = `${path}.${process.pid}.stale`;
  try {
    renameSync(path, aside);
    if (holderLives(aside)) {
      linkSync(aside, path);
    }
  } catch {
    // Another process was quicker.
  } finally {
    rmSync(aside, { force: true });
  }
}

function holderLives(path: string): boolean {
  try {
    process.kill(Number.parseInt(readFileSync(path, 'utf8'), 10), 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
