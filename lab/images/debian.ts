import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { run } from '../system/command.ts';

/** The Debian release of guests and container bases. */
export const DEBIAN_RELEASE = 'trixie';

const BUILD_TIMEOUT_SECONDS = 1200;

/** Documentation and translations are a third of a small system and of no use in it. */
const LEFT_OUT = ['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/info/*', '/usr/share/locale/*'];

/**
 * Makes a root directory of Debian packages (with what they depend on, without what they recommend).
 * Packages come from the mirror in `WEIR_DEBIAN_MIRROR`, or from Debian's own.
 */
export async function debianRoot(options: {
  directory: string;
  packages: readonly string[];
  log: string;
  /** `extract` only unpacks: for a program that is run from there, not for a system. */
  variant?: 'minbase' | 'extract';
}): Promise<void> {
  const { directory, packages, log } = options;
  removeTree(directory);
  mkdirSync(directory, { recursive: true });
  const mirror = process.env['WEIR_DEBIAN_MIRROR'];
  await run(
    [
      ...(['mmdebstrap', `--variant=${options.variant ?? 'minbase'}`, '--mode=root'] as const),
      ...LEFT_OUT.map((path) => `--dpkgopt=path-exclude=${path}`),
      '--dpkgopt=force-unsafe-io',
      '--aptopt=APT::Install-Recommends "false"',
      `--include=${packages.join(',')}`,
      DEBIAN_RELEASE,
      directory,
      ...(mirror ? [mirror] : []),
    ],
    // The kernel package must not make an initial RAM disk: the lab makes its own, much smaller one.
    { timeoutSeconds: BUILD_TIMEOUT_SECONDS, log, env: { INITRD: 'No' } },
  );
  chmodSync(directory, 0o755);
}

/** Removes a directory with everything in it. */
export function removeTree(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}
