import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { run } from '../system/command.ts';
import { removeTree } from './debian.ts';

/** Name of the image that holds every pod's namespaces. It is put into nodes, never pulled. */
export const PAUSE_IMAGE = 'weir.dev/lab/pause:1';

/** Makes an archive (docker-archive) of an image with nothing but the program in it, beside the program. */
export async function pauseImage(program: string): Promise<string> {
  const archive = join(dirname(program), 'pause.tar');
  if (existsSync(archive)) {
    return archive;
  }
  const tree = mkdtempSync(`${archive}-`);
  const tar = (...args: string[]): Promise<string> =>
    run(['tar', '--owner=0', '--group=0', '--numeric-owner', ...args], { timeoutSeconds: 60 });
  try {
    mkdirSync(join(tree, 'root'));
    copyFileSync(program, join(tree, 'root', 'pause'));
    await tar('-C', join(tree, 'root'), '-cf', join(tree, 'layer.tar'), 'pause');
    const digest = createHash('sha256')
      .update(readFileSync(join(tree, 'layer.tar')))
      .digest('hex');
    const config = {
      architecture: 'amd64',
      os: 'linux',
      config: { Entrypoint: ['/pause'], User: '65535:65535' },
      rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    };
    writeFileSync(join(tree, 'config.json'), JSON.stringify(config));
    const manifest = [{ Config: 'config.json', RepoTags: [PAUSE_IMAGE], Layers: ['layer.tar'] }];
    writeFileSync(join(tree, 'manifest.json'), JSON.stringify(manifest));
    await tar('-C', tree, '-cf', `${tree}.tar`, 'manifest.json', 'config.json', 'layer.tar');
    renameSync(`${tree}.tar`, archive);
  } finally {
    removeTree(tree);
  }
  return archive;
}
