import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { LabError } from '../errors.ts';
import type { Guest } from '../guests/guest.ts';
import { type ImageLayout, manifestDigest, writeArchive } from './image-layout.ts';

/** An emulated node unpacks about 5 MB a second on a busy machine. */
const IMPORT_TIMEOUT_SECONDS = 900;

/**
 * Puts an image into a node that runs. Only layers that the node lacks are brought: it takes seconds for every 10 MB.
 *
 * @throws {LabError} also when the node then has another image under that name.
 */
export async function importImage(guest: Guest, layout: ImageLayout): Promise<void> {
  const ctr = async (...args: string[]): Promise<string> => {
    const argv = ['ctr', '--namespace', 'k8s.io', ...args];
    const result = await guest.exec(argv, { timeoutSeconds: IMPORT_TIMEOUT_SECONDS });
    if (result.exitCode === 0) return result.stdout;
    throw new LabError('GuestFailed', `${guest.plan.name}: ${argv.join(' ')}: ${result.stderr.trim()}`);
  };
  const present = new Set((await ctr('content', 'ls', '--quiet')).split('\n'));
  const archive = join(guest.directory, 'image.tar');
  try {
    await writeArchive(layout, archive, present);
    await guest.withSharedFile(archive, (path) => ctr('images', 'import', path));
  } finally {
    rmSync(archive, { force: true });
  }
  const has = await ctr('images', 'ls', `name==${layout.image}`);
  const digest = manifestDigest(layout);
  if (!has.includes(digest)) {
    throw new LabError(
      'GuestFailed',
      `${guest.plan.name} should have ${layout.image} as ${digest}, but has:\n${has}`,
    );
  }
}
