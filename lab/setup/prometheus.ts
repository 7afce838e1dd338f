import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { LabError } from '../errors.ts';
import { cacheDirectory } from '../paths.ts';
import type { Progress } from '../progress.ts';
import { run } from '../system/command.ts';

/** Where Debian's package keeps its programs. */
const PROGRAMS = 'usr/bin';
const FETCH_TIMEOUT_SECONDS = 300;

/**
 * The directory of `prometheus` and `promtool`, empty when they are on PATH. Else they are unpacked from Debian's
 * package into the cache and not installed: its installation would start a server for all the world.
 */
export async function prometheusPrograms(progress: Progress): Promise<string> {
  const own = join(cacheDirectory('prometheus'), 'package', PROGRAMS);
  for (const directory of ['', own]) {
    if (await works(directory)) return directory;
  }
  await progress.step('fetch Prometheus', () => unpack(cacheDirectory('prometheus')));
  if (!(await works(own))) {
    throw new LabError('MissingTool', `${own}: the programs of Debian's package do not run here`);
  }
  return own;
}

async function works(directory: string): Promise<boolean> {
  try {
    for (const program of ['prometheus', 'promtool'])
      await run([join(directory, program), '--version'], { timeoutSeconds: 30 });
    return true;
  } catch {
    // Not there, or not for this machine.
    return false;
  }
}

async function unpack(directory: string): Promise<void> {
  const draft = join(directory, `draft.${process.pid}`);
  const log = join(directory, 'fetch.log');
  const options = { cwd: draft, log, timeoutSeconds: FETCH_TIMEOUT_SECONDS };
  mkdirSync(draft, { recursive: true });
  try {
    const download = (): Promise<string> =>
      run(['sh', '-c', 'apt-get --quiet download prometheus && mv prometheus_*.deb prometheus.deb'], options);
    // A machine that never ran it knows no packages.
    await download().catch(async () => {
      const update = ['apt-get', '--quiet', 'update'] as const;
      await run(process.getuid?.() === 0 ? update : ['sudo', '--non-interactive', ...update], options);
      await download();
    });
    await run(['dpkg-deb', '--extract', 'prometheus.deb', 'package'], options);
    rmSync(join(directory, 'package'), { recursive: true, force: true });
    renameSync(join(draft, 'package'), join(directory, 'package'));
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}
