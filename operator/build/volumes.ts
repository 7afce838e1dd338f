/** What of the node a dataplane's container sees. */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import type { TargetNamespace } from '../../crds/nvmeof-target.ts';
import type { DeviceAccessMode } from '../settings.ts';

/** A hostPath volume and where it is mounted: always at the same path, so that messages name paths of the node. */
export interface HostMount {
  readonly volume: {
    readonly name: string;
    readonly hostPath: {
      readonly path: string;
      readonly type: 'Directory' | 'DirectoryOrCreate' | 'BlockDevice';
    };
  };
  readonly mount: { readonly name: string; readonly mountPath: string };
}

const VOLUME_HASH_DIGITS = 12;

function hostMount(prefix: string, path: string, type: HostMount['volume']['hostPath']['type']): HostMount {
  const hash = createHash('sha256').update(path).digest('hex').slice(0, VOLUME_HASH_DIGITS);
  const name = `${prefix}-${hash}`;
  return { volume: { name, hostPath: { path, type } }, mount: { name, mountPath: path } };
}

/** The RDMA devices. What a device plugin or a claim grants is there by itself. */
function deviceMounts(mode: DeviceAccessMode): HostMount[] {
  return mode === 'DevicePlugin' || mode === 'ResourceClaim'
    ? []
    : [hostMount('rdma', '/dev/infiniband', 'Directory')];
}

/**
 * Host paths that the namespaces need: the directories of files, so that a file can be created and another added
 * beside it without a restart, and the block devices themselves. Sorted, each once.
 */
function backendMounts(namespaces: readonly TargetNamespace[]): HostMount[] {
  const directories = new Set<string>();
  const devices = new Set<string>();
  for (const { backend } of namespaces) {
    if (backend.file !== undefined) directories.add(posix.dirname(backend.file.path));
    if (backend.blockDevice !== undefined) devices.add(backend.blockDevice.path);
  }
  return [
    ...[...directories].sort().map((path) => hostMount('file', path, 'DirectoryOrCreate')),
    ...[...devices].sort().map((path) => hostMount('block', path, 'BlockDevice')),
  ];
}

/** Every host path that a target's pods mount. */
export function hostMounts(namespaces: readonly TargetNamespace[], mode: DeviceAccessMode): HostMount[] {
  return [...deviceMounts(mode), ...backendMounts(namespaces)];
}
