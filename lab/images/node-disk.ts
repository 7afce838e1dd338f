/**
 * The disk that a node's state is on, as a new node gets it: with the image that was built last. An emulated node needs
 * a minute to unpack what this machine unpacks in three seconds, and most of an image stays as it is from build to build.
 */
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { cacheDirectory } from '../paths.ts';
import type { Progress } from '../progress.ts';
import { run } from '../system/command.ts';
import { requireDaemon, startDaemon, stopDaemon } from '../system/daemon.ts';
import { withLock } from '../system/lock.ts';
import { waitFor } from '../system/wait.ts';
import { DEBIAN_RELEASE, debianRoot, removeTree } from './debian.ts';
import { type ImageLayout, manifestDigest, writeArchive } from './image-layout.ts';

/** Holds containerd's and kubelet's state and the files of targets. Sparse. */
const DISK_BYTES = 24 * 1024 ** 3;
const LOCK_TIMEOUT_SECONDS = 1800;
const STEP_TIMEOUT_SECONDS = 300;

/** Node's own containerd, so that it finds a store of its own kind. */
const PACKAGES = ['containerd'];

/** What only a node has is off: pods, and the snapshots of other file systems. */
const CONFIGURATION = `version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.blockfile"]
`;

/** Writes a new node's disk to `path`, which does not exist yet. The node makes the file system if there is none. */
export async function createNodeDisk(path: string): Promise<void> {
  const draft = `${path}.draft`;
  const prepared = join(nodeDisks(), 'data.img');
  if (existsSync(prepared)) {
    await run(['cp', '--sparse=always', prepared, draft], { timeoutSeconds: STEP_TIMEOUT_SECONDS });
  } else {
    writeFileSync(draft, '', { mode: 0o600 });
    truncateSync(draft, DISK_BYTES);
  }
  renameSync(draft, path);
}

/** Makes the disk of nodes that boot from now on, with this image in it, if it is not made yet. */
export async function prepareNodeDisk(progress: Progress, layout: ImageLayout): Promise<void> {
  const directory = nodeDisks();
  const contentFile = join(directory, 'content');
  const content = JSON.stringify([
    DEBIAN_RELEASE,
    PACKAGES,
    DISK_BYTES,
    layout.image,
    manifestDigest(layout),
  ]);
  const isMade = (): boolean => existsSync(contentFile) && readFileSync(contentFile, 'utf8') === content;
  await withLock(join(directory, 'lock'), LOCK_TIMEOUT_SECONDS, async () => {
    if (isMade()) return;
    await progress.step("put the image on new nodes' disk", async () => {
      rmSync(contentFile, { force: true });
      await build(directory, layout);
      writeFileSync(contentFile, content);
    });
  });
}

async function build(directory: string, layout: ImageLayout): Promise<void> {
  const log = join(directory, 'build.log');
  const tree = join(directory, 'tree');
  removeTree(tree);
  mkdirSync(tree);
  try {
    await fillStore(directory, join(tree, 'containerd'), layout, log);
    const draft = join(directory, 'data.img.draft');
    rmSync(draft, { force: true });
    const options = ['-E', 'lazy_itable_init=1,lazy_journal_init=1', '-d', tree];
    await run(['mke2fs', '-q', '-F', '-t', 'ext4', ...options, draft, `${DISK_BYTES / 1024}k`], {
      timeoutSeconds: STEP_TIMEOUT_SECONDS,
      log,
    });
    renameSync(draft, join(directory, 'data.img'));
  } finally {
    removeTree(tree);
  }
}

/** Lets a containerd on this machine import the image into `store`. Its mounts are its own, and end with it. */
async function fillStore(directory: string, store: string, layout: ImageLayout, log: string): Promise<void> {
  const root = await containerdRoot(directory, log);
  const socket = join(directory, 'containerd.sock');
  const configuration = join(directory, 'containerd.toml');
  const archive = join(directory, 'image.tar');
  const state = join(directory, 'state');
  writeFileSync(configuration, CONFIGURATION);
  await writeArchive(layout, archive);
  const program = (name: string): [string, ...string[]] => [
    join(root, 'usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2'),
    '--library-path',
    join(root, 'usr/lib/x86_64-linux-gnu'),
    join(root, 'usr/bin', name),
  ];
  const containerd = { name: 'containerd', directory, log };
  const places = ['--config', configuration, '--root', store, '--state', state, '--address', socket];
  try {
    startDaemon({
      ...containerd,
      argv: ['unshare', '--mount', '--propagation', 'private', ...program('containerd'), ...places],
      tiedToParent: true,
    });
    await waitFor(
      () => {
        requireDaemon(directory, containerd.name, log);
        return existsSync(socket);
      },
      { what: 'containerd', timeoutSeconds: 60, log },
    );
    const ctr = [...program('ctr'), '--address', socket, '--namespace', 'k8s.io'] as const;
    await run([...ctr, 'images', 'import', archive], { timeoutSeconds: STEP_TIMEOUT_SECONDS, log });
  } finally {
    await stopDaemon(directory, containerd.name);
    rmSync(archive, { force: true });
    rmSync(socket, { force: true });
    removeTree(state);
  }
}

/** A directory with the programs of containerd and their libraries. */
async function containerdRoot(directory: string, log: string): Promise<string> {
  const key = createHash('sha256')
    .update(JSON.stringify([DEBIAN_RELEASE, PACKAGES]))
    .digest('hex')
    .slice(0, 16);
  const root = join(directory, `containerd-${key}`);
  if (!existsSync(root)) {
    const draft = join(directory, 'containerd.draft');
    await debianRoot({ directory: draft, packages: PACKAGES, log, variant: 'extract' });
    renameSync(draft, root);
  }
  return root;
}

function nodeDisks(): string {
  return cacheDirectory('node-disk');
}
