/** An image on the machine's disk, in the layout of the Open Container Initiative: blobs named by their digests. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LabError } from '../errors.ts';
import { run } from '../system/command.ts';

/** An image that a node can import. */
export interface ImageLayout {
  /** The name under which pods find the image. */
  image: string;
  /** Absolute path of the layout's directory, which holds this image only. */
  directory: string;
}

/** The part of a manifest or of an index that is looked at here. */
interface Descriptor {
  digest: string;
}

const TAR_TIMEOUT_SECONDS = 120;

/** Digest of the image's manifest, which stands for everything in it: `sha256:` and 64 hexadecimal digits. */
export function manifestDigest(layout: ImageLayout): string {
  const { manifests } = readJson<{ manifests: Descriptor[] }>(join(layout.directory, 'index.json'));
  const [manifest] = manifests;
  if (manifest === undefined || manifests.length > 1) {
    throw new LabError('CommandFailed', `${layout.directory} holds ${manifests.length} images, not one`);
  }
  return manifest.digest;
}

/** Digests of all that makes up the image, its manifest first. */
export function blobsOf(layout: ImageLayout): string[] {
  const digest = manifestDigest(layout);
  const manifest = readJson<{ config: Descriptor; layers: Descriptor[] }>(blobPath(layout, digest));
  return [digest, ...[manifest.config, ...manifest.layers].map((descriptor) => descriptor.digest)];
}

/**
 * Writes an archive (oci-archive) of the image without the layers in `present`. Who imports it has to have those:
 * they are looked up by digest, so another layer is never taken for one of them.
 */
export async function writeArchive(
  layout: ImageLayout,
  archive: string,
  present: ReadonlySet<string> = new Set(),
): Promise<void> {
  const [manifest = '', ...rest] = blobsOf(layout);
  const blobs = [manifest, ...rest.filter((digest) => !present.has(digest))];
  const files = ['oci-layout', 'index.json', ...new Set(blobs.map(blobName))];
  await run(['tar', '-C', layout.directory, '-cf', archive, ...files], {
    timeoutSeconds: TAR_TIMEOUT_SECONDS,
  });
}

function blobPath(layout: ImageLayout, digest: string): string {
  return join(layout.directory, blobName(digest));
}

function blobName(digest: string): string {
  return join('blobs', ...digest.split(':'));
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, 'utf8')) as T;
}
