import { join } from 'node:path';
import { cacheDirectory } from '../paths.ts';
import { run } from '../system/command.ts';

/**
 * Runs buildah on a store of the lab's own in the cache, apart from the user's images. Containers of a build
 * share the machine's network (`chroot` isolation): no daemon, no interface, no rule is left behind.
 */
export function buildah(
  args: readonly [string, ...string[]],
  options: { timeoutSeconds: number; log: string },
): Promise<string> {
  const [command, ...rest] = args;
  return run(
    [
      'buildah',
      ...['--root', cacheDirectory('containers', 'store'), '--runroot', cacheDirectory('containers', 'run')],
      // Without this the store stays mounted on itself for ever.
      ...['--storage-driver', 'overlay', '--storage-opt', 'overlay.skip_mount_home=true', command, ...rest],
    ],
    { ...options, env: { BUILDAH_ISOLATION: 'chroot', TMPDIR: cacheDirectory('containers', 'temporary') } },
  );
}

/** Log of everything that buildah does. */
export function buildLog(): string {
  return join(cacheDirectory('containers'), 'build.log');
}
