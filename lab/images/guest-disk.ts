import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { LabError } from '../errors.ts';
import { cacheDirectory } from '../paths.ts';
import type { Progress } from '../progress.ts';
import { run } from '../system/command.ts';
import { withLock } from '../system/lock.ts';
import { debianRoot, removeTree } from './debian.ts';

/** What guests boot from. All of it is only read: each guest writes to a layer of its own. */
export interface GuestDisk {
  /** Raw ext4 image of the root file system. */
  root: string;
  kernel: string;
  /** Directory with the modules and the shell for the initial RAM disk. */
  bootFiles: string;
}

/** One root serves nodes and hosts alike. */
const PACKAGES = [
  // Boot.
  'linux-image-amd64',
  'busybox-static',
  'tini',
  'kmod',
  'e2fsprogs',
  'mount',
  // RDMA and NVMe.
  'rdma-core',
  'ibverbs-providers',
  'ibverbs-utils',
  'rdmacm-utils',
  'nvme-cli',
  'fio',
  // Network.
  'iproute2',
  'iputils-ping',
  'ethtool',
  'nftables',
  'iptables',
  'tcpdump',
  // Kubernetes node.
  'containerd',
  'runc',
  'containernetworking-plugins',
  'ca-certificates',
  // For people and tests.
  'procps',
  'jq',
  'curl',
  'strace',
];

/** Modules that must be there before the root disk and the share can be mounted. */
const BOOT_MODULES = ['virtio_pci', 'virtio_blk', 'crc32c_generic', 'ext4', '9pnet_virtio', '9p'];

const ROOT_SIZE_MIB = 2048;
const LOCK_TIMEOUT_SECONDS = 1800;

/** The guests' disk; makes it if it is not in the cache (a minute or two). */
export async function guestDisk(progress: Progress): Promise<GuestDisk> {
  const description = JSON.stringify([PACKAGES, BOOT_MODULES, ROOT_SIZE_MIB]);
  const key = createHash('sha256').update(description).digest('hex').slice(0, 16);
  const directory = cacheDirectory('guest-disks', key);
  const disk = {
    root: join(directory, 'root.img'),
    kernel: join(directory, 'vmlinuz'),
    bootFiles: join(directory, 'boot'),
  };
  if (!existsSync(disk.root)) {
    await withLock(join(directory, 'lock'), LOCK_TIMEOUT_SECONDS, async () => {
      if (!existsSync(disk.root)) {
        await progress.step("make the guests' disk (Debian packages)", () => build(directory, disk));
      }
    });
  }
  return disk;
}

async function build(directory: string, disk: GuestDisk): Promise<void> {
  const log = join(directory, 'build.log');
  const root = join(directory, 'root');
  await debianRoot({ directory: root, packages: PACKAGES, log });
  copyFileSync(only(join(root, 'boot'), 'vmlinuz-'), disk.kernel);
  await collectBootFiles(root, disk.bootFiles, log);
  const draft = `${disk.root}.draft`;
  await run(
    [
      ...(['mke2fs', '-q', '-F', '-t', 'ext4', '-d', root] as const),
      // The disk is thrown away with the guest: no journal, no reserve.
      ...['-O', '^has_journal,^metadata_csum', '-m', '0', '-L', 'weir-lab', draft, `${ROOT_SIZE_MIB}M`],
    ],
    { timeoutSeconds: 300, log },
  );
  removeTree(root);
  renameSync(draft, disk.root);
}

/** Takes the modules for the initial RAM disk out of the root, unpacked, with a file that lists their order. */
async function collectBootFiles(root: string, target: string, log: string): Promise<void> {
  removeTree(target);
  mkdirSync(join(target, 'modules'), { recursive: true });
  const tree = only(join(root, 'usr/lib/modules'), '');
  const order: string[] = [];
  for (const path of withDependencies(readFileSync(join(tree, 'modules.dep'), 'utf8'), BOOT_MODULES)) {
    const packed = path.slice(path.lastIndexOf('/') + 1);
    const name = packed.replace(/\.xz$/, '');
    copyFileSync(join(tree, path), join(target, 'modules', packed));
    if (packed !== name) {
      await run(['xz', '--decompress', '--force', join(target, 'modules', packed)], {
        timeoutSeconds: 30,
        log,
      });
    }
    order.push(name);
  }
  writeFileSync(join(target, 'modules', 'order'), `${order.join('\n')}\n`);
  copyFileSync(join(root, 'usr/bin/busybox'), join(target, 'busybox'));
}

/** Paths of the modules and of all they need, each after what it needs. Built-in modules are left out. */
export function withDependencies(modulesDep: string, wanted: readonly string[]): string[] {
  const needs = new Map<string, string[]>();
  const pathOf = new Map<string, string>();
  for (const line of modulesDep.trim().split('\n')) {
    const [path = '', rest = ''] = line.split(':');
    needs.set(path, rest.trim() === '' ? [] : rest.trim().split(' '));
    const name = path
      .slice(path.lastIndexOf('/') + 1)
      .replace(/\.ko.*$/, '')
      .replaceAll('-', '_');
    pathOf.set(name, path);
  }
  const ordered = new Set<string>();
  const add = (path: string): void => {
    // Each line lists everything that is needed, nearest first.
    for (const needed of [...(needs.get(path) ?? [])].reverse()) {
      ordered.add(needed);
    }
    ordered.add(path);
  };
  for (const name of wanted) {
    const path = pathOf.get(name);
    if (path !== undefined) {
      add(path);
    }
  }
  return [...ordered];
}

function only(directory: string, prefix: string): string {
  const found = readdirSync(directory).filter((name) => name.startsWith(prefix));
  const [name] = found;
  if (name === undefined || found.length > 1) {
    throw new LabError('CommandFailed', `expected one ${prefix}* in ${directory}, found ${found.length}`);
  }
  return join(directory, name);
}
