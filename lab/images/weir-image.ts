import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDirectory } from '../paths.ts';
import type { Progress } from '../progress.ts';
import { withLock } from '../system/lock.ts';
import { containerBase } from './container-bases.ts';
import { buildah, buildLog } from './container-store.ts';
import { removeTree } from './debian.ts';
import type { ImageLayout } from './image-layout.ts';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
/** The first build compiles all of the native core's dependencies. */
const BUILD_TIMEOUT_SECONDS = 3600;

/** Builds the repository's Dockerfile and writes the image to a layout. Unchanged layers are kept. */
export async function buildWeirImage(progress: Progress, tag = 'lab'): Promise<ImageLayout> {
  const image = `weir.dev/weir:${tag}`;
  const directory = cacheDirectory('containers', 'images');
  const layout = { image, directory: join(directory, `weir-${tag}`) };
  const options = { timeoutSeconds: BUILD_TIMEOUT_SECONDS, log: buildLog() };
  await withLock(join(directory, 'lock'), BUILD_TIMEOUT_SECONDS, async () => {
    const build = await containerBase(progress, 'build');
    const runtime = await containerBase(progress, 'runtime');
    try {
      await progress.step(`build the image ${image}`, async () => {
        await buildah(
          [
            'bud',
            ...['--isolation', 'chroot', '--layers', '--pull-never', '--tag', image],
            ...trustTheMachinesAuthorities(directory),
            ...['--build-arg', `BUILD_BASE=${build}`, '--build-arg', `RUNTIME_BASE=${runtime}`, REPOSITORY],
          ],
          options,
        );
        const draft = `${layout.directory}.draft`;
        removeTree(draft);
        await buildah(['push', '--quiet', '--format', 'oci', image, `oci:${draft}:${image}`], options);
        removeTree(layout.directory);
        renameSync(draft, layout.directory);
      });
    } finally {
      // A build that was ended leaves its working containers, and their mounts, behind.
      await buildah(['rm', '--all'], options);
    }
  });
  return layout;
}

/**
 * Steps of the build fetch packages as the machine does: with the certificate authorities that the machine
 * trusts, which on a network with a proxy are more than a new Debian has. Nothing of this gets into the image.
 */
function trustTheMachinesAuthorities(directory: string): string[] {
  const certificates = '/etc/ssl/certs';
  const npmrc = join(directory, 'npmrc');
  writeFileSync(npmrc, `cafile=${certificates}/ca-certificates.crt\n`);
  return ['--volume', `${certificates}:${certificates}:ro`, '--volume', `${npmrc}:/root/.npmrc:ro`];
}
