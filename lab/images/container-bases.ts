import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { LabError } from '../errors.ts';
import { cacheDirectory } from '../paths.ts';
import type { Progress } from '../progress.ts';
import { withLock } from '../system/lock.ts';
import { buildah, buildLog } from './container-store.ts';
import { DEBIAN_RELEASE, debianRoot, removeTree } from './debian.ts';

/** Content of a base. */
interface BaseContent {
  packages: readonly string[];
  /** See `debianRoot`. */
  variant?: 'extract';
}

/** The two bases of the Dockerfile. No image can be pulled where the lab runs, so they are made of packages. */
const BASES: Readonly<Record<'build' | 'runtime', BaseContent>> = {
  build: {
    packages: [
      'ca-certificates',
      'cargo',
      'clang',
      'cmake',
      'gcc',
      'libc6-dev',
      'libclang-dev',
      'libibverbs-dev',
      'librdmacm-dev',
      'make',
      'npm',
      'rustc',
    ],
  },
  // Only what the programs need, unpacked: an emulated node takes seconds for every 10 MB of an image.
  runtime: {
    packages: [
      'base-files',
      'coreutils',
      'dash',
      'ibverbs-providers',
      'libibverbs1',
      'librdmacm1',
      'libstdc++6',
    ],
    variant: 'extract',
  },
};

export type ContainerBase = keyof typeof BASES;

const TIMEOUT_SECONDS = 1800;

/** Name of a base in the lab's store; makes it if it is missing (one to three minutes). */
export async function containerBase(progress: Progress, base: ContainerBase): Promise<string> {
  const { packages, variant } = BASES[base];
  const key = createHash('sha256')
    .update(JSON.stringify([DEBIAN_RELEASE, packages, ...(variant === undefined ? [] : [variant])]))
    .digest('hex')
    .slice(0, 16);
  const image = `localhost/weir-lab/${base}-base:${key}`;
  const options = { timeoutSeconds: TIMEOUT_SECONDS, log: buildLog() };
  const exists = async (): Promise<boolean> => {
    const images = await buildah(['images', '--format', '{{.Name}}:{{.Tag}}'], options);
    return images.split('\n').includes(image);
  };
  if (await exists()) {
    return image;
  }
  const directory = cacheDirectory('containers', 'bases');
  await withLock(join(directory, `${base}.lock`), TIMEOUT_SECONDS, async () => {
    if (await exists()) {
      return;
    }
    await progress.step(`make the image's ${base} base (Debian packages)`, async () => {
      const root = join(directory, base);
      await debianRoot({
        directory: root,
        packages,
        log: options.log,
        ...(variant === undefined ? {} : { variant }),
      });
      const container = (await buildah(['from', 'scratch'], options)).trim();
      try {
        await buildah(['add', '--quiet', container, root, '/'], options);
        await buildah(['config', '--env', `PATH=${IMAGE_PATH}`, container], options);
        await buildah(['commit', '--quiet', container, image], options);
      } finally {
        await buildah(['rm', container], options);
        removeTree(root);
      }
    });
  });
  if (!(await exists())) {
    throw new LabError('CommandFailed', `${image} was not made`, { log: options.log });
  }
  return image;
}

const IMAGE_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
