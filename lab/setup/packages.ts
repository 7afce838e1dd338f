import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { LabError } from '../errors.ts';
import { cacheDirectory } from '../paths.ts';
import type { Progress } from '../progress.ts';
import { run } from '../system/command.ts';

/** A program that the lab runs, and the Debian package it comes from. */
const PROGRAMS: Readonly<Record<string, string>> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  mmdebstrap: 'mmdebstrap',
  buildah: 'buildah',
  etcd: 'etcd-server',
  openssl: 'openssl',
  mke2fs: 'e2fsprogs',
  cpio: 'cpio',
  xz: 'xz-utils',
  setpriv: 'util-linux',
  unshare: 'util-linux',
};

/** Directories that a plain user's PATH lacks. */
const SYSTEM_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin'];
const INSTALL_TIMEOUT_SECONDS = 1200;

/** Installs the Debian packages that the lab needs and the machine lacks. */
export async function installPackages(progress: Progress): Promise<void> {
  process.env['PATH'] = [process.env['PATH'], ...SYSTEM_DIRECTORIES].join(delimiter);
  const missing = [...new Set(missingPrograms().map((program) => PROGRAMS[program] ?? program))];
  if (missing.length === 0) {
    return;
  }
  await progress.step(`install Debian packages: ${missing.join(' ')}`, async () => {
    const log = join(cacheDirectory(), 'packages.log');
    const env = { DEBIAN_FRONTEND: 'noninteractive' };
    const options = { env, log, timeoutSeconds: INSTALL_TIMEOUT_SECONDS };
    const root = process.getuid?.() === 0 ? [] : ['sudo', '--non-interactive'];
    const apt = (...args: string[]): Promise<string> =>
      run(
        [...root, 'apt-get', '--quiet', '--yes', '-o', 'DPkg::Lock::Timeout=300', ...args] as [string],
        options,
      );
    await apt('update');
    await apt('install', '--no-install-recommends', ...missing);
  });
  const still = missingPrograms();
  if (still.length > 0) {
    throw new LabError('MissingTool', `still missing after installation: ${still.join(' ')}`);
  }
}

function missingPrograms(): string[] {
  const directories = (process.env['PATH'] ?? '').split(delimiter);
  return Object.keys(PROGRAMS).filter(
    (program) => !directories.some((directory) => existsSync(join(directory, program))),
  );
}
