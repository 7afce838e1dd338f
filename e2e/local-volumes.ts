/** PersistentVolumes of type local on a node of the lab, each bound to a claim: a real disk that can grow, a directory. */
import { type GuestShell, mustExec } from './guest-shell.ts';

/** Below a directory of the node that is on a real file system: overlays take no direct I/O. */
const DIRECTORY = '/var/lib/weir/volumes';

// $1: file. $2: its bytes. Prints the loop device that is made of it.
const ATTACH_DISK = 'mkdir -p "$(dirname "$1")" && truncate -s "$2" "$1" && losetup --find --show "$1"';
// $1: file. $2: its bytes. $3: the loop device.
const GROW_DISK = 'truncate -s "$2" "$1" && losetup --set-capacity "$3"';

/** A disk of a node: a loop device, as good as any to Kubernetes. */
export class LocalDisk {
  readonly #shell: GuestShell;
  readonly #node: string;
  readonly #file: string;
  /** Path in `/dev`. */
  readonly device: string;

  private constructor(shell: GuestShell, node: string, file: string, device: string) {
    this.#shell = shell;
    this.#node = node;
    this.#file = file;
    this.device = device;
  }

  /** Makes a disk of so many bytes. */
  static async attach(shell: GuestShell, node: string, name: string, sizeBytes: number): Promise<LocalDisk> {
    const file = `${DIRECTORY}/${name}.img`;
    const argv = ['sh', '-c', ATTACH_DISK, 'sh', file, String(sizeBytes)];
    return new LocalDisk(shell, node, file, (await mustExec(shell, node, argv)).trim());
  }

  /** Makes it larger, in place and in use. */
  async grow(sizeBytes: number): Promise<void> {
    const argv = ['sh', '-c', GROW_DISK, 'sh', this.#file, String(sizeBytes), this.device];
    await mustExec(this.#shell, this.#node, argv);
  }

  /** Takes it away, with what it held. */
  async remove(): Promise<void> {
    await mustExec(this.#shell, this.#node, ['losetup', '--detach', this.device]);
    await mustExec(this.#shell, this.#node, ['rm', '-f', this.#file]);
  }
}

/** Makes a directory for a volume with a file system; its path. */
export async function makeVolumeDirectory(shell: GuestShell, node: string, name: string): Promise<string> {
  const path = `${DIRECTORY}/${name}`;
  await mustExec(shell, node, ['mkdir', '-p', path]);
  return path;
}

/** A claim and the local volume that it is bound to. */
export interface LocalClaim {
  readonly namespace: string;
  /** Of the claim, and with the namespace before it, of the volume. */
  readonly name: string;
  readonly node: string;
  /** Device or directory on the node. */
  readonly path: string;
  readonly volumeMode: 'Block' | 'Filesystem';
  /** Quantity, like `64Mi`. */
  readonly capacity: string;
}

/** Name of a claim's volume. */
export function volumeName({ namespace, name }: Pick<LocalClaim, 'namespace' | 'name'>): string {
  return `${namespace}-${name}`;
}

/** The manifest of a claim and its volume. */
export function localClaimManifest(claim: LocalClaim): string {
  const { namespace, name, node, path, volumeMode, capacity } = claim;
  const onNode = { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }] };
  const shared = { accessModes: ['ReadWriteOnce'], volumeMode, storageClassName: '' };
  const volume = {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: volumeName(claim) },
    spec: {
      ...shared,
      capacity: { storage: capacity },
      persistentVolumeReclaimPolicy: 'Retain',
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name },
      local: { path },
      nodeAffinity: { required: { nodeSelectorTerms: [onNode] } },
    },
  };
  const request = {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name, namespace },
    spec: { ...shared, volumeName: volumeName(claim), resources: { requests: { storage: capacity } } },
  };
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items: [volume, request] });
}
