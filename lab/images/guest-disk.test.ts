import { expect, test } from 'vitest';
import { withDependencies } from './guest-disk.ts';

const MODULES_DEP = `
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz
kernel/fs/jbd2/jbd2.ko.xz: kernel/lib/crc16.ko.xz
kernel/lib/crc16.ko.xz:
kernel/crypto/crc32c-generic.ko.xz:
`.trimStart();

test('a module comes after everything it needs, and once', () => {
  expect(withDependencies(MODULES_DEP, ['ext4', 'jbd2'])).toEqual([
    'kernel/lib/crc16.ko.xz',
    'kernel/fs/jbd2/jbd2.ko.xz',
    'kernel/fs/ext4/ext4.ko.xz',
  ]);
});

test('hyphens and underscores in module names are the same', () => {
  expect(withDependencies(MODULES_DEP, ['crc32c_generic'])).toEqual(['kernel/crypto/crc32c-generic.ko.xz']);
});

test('a module that is built into the kernel is left out', () => {
  expect(withDependencies(MODULES_DEP, ['virtio_pci'])).toEqual([]);
});
