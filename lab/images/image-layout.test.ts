import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { blobsOf, manifestDigest, writeArchive } from './image-layout.ts';

const layout = { image: 'weir.dev/weir:test', directory: '' };

beforeEach(() => {
  layout.directory = mkdtempSync(join(tmpdir(), 'weir-layout-'));
  mkdirSync(join(layout.directory, 'blobs/sha256'), { recursive: true });
  write('oci-layout', {});
  write('index.json', { manifests: [{ digest: 'sha256:manifest' }] });
  write('blobs/sha256/manifest', {
    config: { digest: 'sha256:config' },
    layers: [{ digest: 'sha256:base' }, { digest: 'sha256:program' }],
  });
  for (const name of ['config', 'base', 'program']) write(`blobs/sha256/${name}`, {});
});

afterEach(() => rmSync(layout.directory, { recursive: true }));

function write(name: string, content: unknown): void {
  writeFileSync(join(layout.directory, name), JSON.stringify(content));
}

async function archived(present?: ReadonlySet<string>): Promise<string[]> {
  const archive = join(layout.directory, 'archive.tar');
  await writeArchive(layout, archive, present);
  return execFileSync('tar', ['-tf', archive], { encoding: 'utf8' }).trim().split('\n');
}

test('an image is its manifest, its configuration and its layers', () => {
  expect(manifestDigest(layout)).toBe('sha256:manifest');
  expect(blobsOf(layout)).toEqual(['sha256:manifest', 'sha256:config', 'sha256:base', 'sha256:program']);
});

test('a layout with two images is refused: which one is meant is not known', () => {
  write('index.json', { manifests: [{ digest: 'sha256:manifest' }, { digest: 'sha256:other' }] });
  expect(() => manifestDigest(layout)).toThrow('holds 2 images');
});

test('an archive has all of the image when nothing is present', async () => {
  expect(await archived()).toEqual([
    'oci-layout',
    'index.json',
    'blobs/sha256/manifest',
    'blobs/sha256/config',
    'blobs/sha256/base',
    'blobs/sha256/program',
  ]);
});

test('a layer that is present is left out; the manifest never is', async () => {
  const present = new Set(['sha256:manifest', 'sha256:base', 'sha256:of another image']);
  expect(await archived(present)).toEqual([
    'oci-layout',
    'index.json',
    'blobs/sha256/manifest',
    'blobs/sha256/config',
    'blobs/sha256/program',
  ]);
});
