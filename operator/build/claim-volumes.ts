/** What of PersistentVolumeClaims a dataplane's container sees. */
import { createHash } from 'node:crypto';
import type { ClaimBackend, TargetNamespace } from '../../crds/nvmeof-target.ts';

/** A claim of a pod, and where its container finds it: as a block device, or mounted. */
export interface ClaimVolume {
  readonly volume: {
    readonly name: string;
    readonly persistentVolumeClaim: { readonly claimName: string; readonly readOnly?: true };
  };
  /** For volumeMode Block. */
  readonly device?: { readonly name: string; readonly devicePath: string };
  /** For volumeMode Filesystem. */
  readonly mount?: { readonly name: string; readonly mountPath: string; readonly readOnly?: true };
}

const DEVICE_DIRECTORY = '/dev/weir';
const MOUNT_DIRECTORY = '/var/lib/weir-claims';

/** Volumes are named by labels of at most 63 characters, claims by up to 253. */
const VOLUME_HASH_DIGITS = 12;

/** Where the dataplane's container has what a namespace lives in: a block device, or a file. */
export function claimPath({ claimName, file }: ClaimBackend): string {
  return file === undefined
    ? `${DEVICE_DIRECTORY}/${claimName}`
    : `${MOUNT_DIRECTORY}/${claimName}/${file.name}`;
}

function claimVolume(claimName: string, isBlock: boolean, isReadOnly: boolean): ClaimVolume {
  const name = `claim-${createHash('sha256').update(claimName).digest('hex').slice(0, VOLUME_HASH_DIGITS)}`;
  const readOnly = isReadOnly ? { readOnly: true as const } : {};
  const volume = { name, persistentVolumeClaim: { claimName, ...readOnly } };
  return isBlock
    ? { volume, device: { name, devicePath: `${DEVICE_DIRECTORY}/${claimName}` } }
    : { volume, mount: { name, mountPath: `${MOUNT_DIRECTORY}/${claimName}`, ...readOnly } };
}

/**
 * Every claim of the namespaces once, in order of their names. That `file` goes with volumeMode Filesystem, and only
 * with it, has been judged before. A claim that no namespace writes to is mounted for reading only.
 */
export function claimVolumes(namespaces: readonly TargetNamespace[]): ClaimVolume[] {
  const claims = new Map<string, { isBlock: boolean; isReadOnly: boolean }>();
  for (const { readOnly, backend } of namespaces) {
    const claim = backend.persistentVolumeClaim;
    if (claim === undefined) continue;
    const isReadOnly = readOnly && claims.get(claim.claimName)?.isReadOnly !== false;
    claims.set(claim.claimName, { isBlock: claim.file === undefined, isReadOnly });
  }
  return [...claims]
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([name, { isBlock, isReadOnly }]) => claimVolume(name, isBlock, isReadOnly));
}
