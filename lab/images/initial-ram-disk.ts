import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../system/command.ts';
import { removeTree } from './debian.ts';
import type { GuestDisk } from './guest-disk.ts';

const INIT = fileURLToPath(new URL('../guests/boot/init', import.meta.url));

/**
 * The initial RAM disk of guests: a shell, a few modules, and the init script. Not compressed, because
 * unpacking is what an emulated processor is slow at. Kept beside the boot files, by the script's content.
 */
export async function initialRamDisk(disk: GuestDisk): Promise<string> {
  const key = createHash('sha256').update(readFileSync(INIT)).digest('hex').slice(0, 16);
  const image = `${disk.bootFiles}-${key}.cpio`;
  if (existsSync(image)) {
    return image;
  }
  const tree = mkdtempSync(`${disk.bootFiles}-`);
  try {
    mkdirSync(join(tree, 'bin'));
    cpSync(join(disk.bootFiles, 'modules'), join(tree, 'modules'), { recursive: true });
    copyFileSync(join(disk.bootFiles, 'busybox'), join(tree, 'bin', 'busybox'));
    copyFileSync(INIT, join(tree, 'init'));
    chmodSync(join(tree, 'init'), 0o755);
    chmodSync(join(tree, 'bin', 'busybox'), 0o755);
    const draft = `${tree}.cpio`;
    const pack = 'cd "$1" && find . | cpio --quiet --create --format=newc --owner=0:0 >"$2"';
    await run(['sh', '-c', pack, 'sh', tree, draft], { timeoutSeconds: 60 });
    renameSync(draft, image);
  } finally {
    removeTree(tree);
  }
  return image;
}
