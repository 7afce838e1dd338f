/** Judges the PersistentVolumeClaims of a target: whether its pods can have them, and whether its data is safe there. */
import type { ClaimBackend, NvmeofTargetSpec, TargetNamespace } from '../../crds/nvmeof-target.ts';
import { quantityToBytes } from '../../crds/quantity.ts';
import type { Cache } from '../kubernetes/cache.ts';
import { type ClusterNode, type DataplanePod, isPodAlive } from './cluster-objects.ts';
import type { OlderTarget } from './judge.ts';
import { matchesAnyTerm } from './node-selection.ts';
import { Refusal } from './refusal.ts';
import type { StoredClaim, StoredVolume } from './storage-objects.ts';

/** Caches that claims are judged by. */
export interface ClaimCaches {
  readonly claims: Cache<StoredClaim>;
  readonly volumes: Cache<StoredVolume>;
  readonly nodes: Cache<ClusterNode>;
}

/** A target, as far as its claims go. */
export interface ClaimingTarget {
  /** Kubernetes namespace. */
  readonly namespace: string;
  readonly spec: NvmeofTargetSpec;
  /** Nodes that should serve it. */
  readonly nodes: ReadonlySet<string>;
  /** Pods that it has. */
  readonly pods: readonly DataplanePod[];
}

/** What is known of a target's claims. */
export interface ResolvedClaims {
  /** Bytes by name of the claim, of those that are bound and say so. */
  readonly capacities: ReadonlyMap<string, number>;
  /** Names of claims that wait for a volume. */
  readonly unbound: readonly string[];
}

/** A namespace and the claim that it lives in. */
interface Use {
  readonly nsid: number;
  readonly readOnly: boolean;
  readonly backend: ClaimBackend;
}

function usesOf(namespaces: readonly TargetNamespace[]): Use[] {
  return namespaces.flatMap(({ nsid, readOnly, backend }) =>
    backend.persistentVolumeClaim === undefined
      ? []
      : [{ nsid, readOnly, backend: backend.persistentVolumeClaim }],
  );
}

/** Names of the claims that a target asks for. */
export function claimNames(spec: NvmeofTargetSpec): ReadonlySet<string> {
  return new Set(usesOf(spec.namespaces).map(({ backend }) => backend.claimName));
}

/**
 * A claim that waits for a volume may be waiting for the target's pods (WaitForFirstConsumer). But a pod that serves is
 * not replaced by one that waits: what it serves would be gone for as long.
 */
function judgeBinding({ nsid, backend }: Use, claim: StoredClaim, pods: readonly DataplanePod[]): void {
  const subject = `namespace ${nsid}: PersistentVolumeClaim ${backend.claimName}`;
  if (claim.metadata.deletionTimestamp !== undefined) {
    throw new Refusal(
      'ClaimNotBound',
      `${subject} is being deleted: pods that have it keep it, but no new pod can; use another claim`,
    );
  }
  const { phase } = claim.status;
  if (phase === 'Bound') return;
  if (phase === 'Lost') {
    throw new Refusal(
      'ClaimNotBound',
      `${subject} has lost its volume (phase Lost): restore the PersistentVolume, or use another claim`,
    );
  }
  const serving = pods.find((pod) => isPodAlive(pod) && !pod.spec.claimNames.includes(backend.claimName));
  if (serving === undefined) return;
  throw new Refusal(
    'ClaimNotBound',
    `${subject} has no volume yet (phase ${phase}), and pod ${serving.metadata.name} would have to make way for one that waits for it: wait until it is bound; where volumeBindingMode is WaitForFirstConsumer, let another pod on the node use it first`,
  );
}

function judgeVolumeMode({ nsid, backend }: Use, claim: StoredClaim): void {
  const { claimName, file } = backend;
  if (claim.spec.volumeMode === 'Block' && file !== undefined) {
    throw new Refusal(
      'ClaimVolumeMode',
      `namespace ${nsid}: PersistentVolumeClaim ${claimName} has volumeMode Block, so the namespace is the whole device: remove persistentVolumeClaim.file, or use a claim with volumeMode Filesystem`,
    );
  }
  if (claim.spec.volumeMode !== 'Block' && file === undefined) {
    throw new Refusal(
      'ClaimVolumeMode',
      `namespace ${nsid}: PersistentVolumeClaim ${claimName} has volumeMode Filesystem: set persistentVolumeClaim.file.size, the capacity of the namespace's file in it, or use a claim with volumeMode Block`,
    );
  }
}

function judgeSize(uses: readonly Use[], capacity: number): void {
  const files = uses.flatMap(({ nsid, backend: { claimName, file } }) =>
    file === undefined ? [] : [{ nsid, claimName, ...file, bytes: quantityToBytes(file.size) ?? 0 }],
  );
  // Two namespaces may show one file, one of them for reading only.
  const byName = new Map(files.map(({ name, bytes }) => [name, bytes]));
  const total = [...byName.values()].reduce((sum, bytes) => sum + bytes, 0);
  const last = files.at(-1);
  if (last === undefined || total <= capacity) return;
  throw new Refusal(
    'ClaimTooSmall',
    `namespace ${last.nsid}: PersistentVolumeClaim ${last.claimName} has ${capacity} bytes, its files need ${total}: let the claim grow first (spec.resources.requests.storage), or lower file.size`,
  );
}

/** Nodes that a message names; the rest is counted. */
const NODES_NAMED_MAX = 3;

function listNodes(nodes: ReadonlySet<string>): string {
  const names = [...nodes].sort();
  const shown = names.slice(0, NODES_NAMED_MAX).join(', ');
  return `${names.length} nodes use it (${shown}${names.length > NODES_NAMED_MAX ? ', …' : ''})`;
}

function judgeAccess(
  { nsid, readOnly, backend }: Use,
  { spec: { accessModes } }: StoredClaim,
  ownNodes: ReadonlySet<string>,
  others: readonly OlderUse[],
): void {
  const { claimName, file } = backend;
  const has = (...modes: string[]) => modes.some((mode) => accessModes.includes(mode));
  const subject = `namespace ${nsid}: PersistentVolumeClaim ${claimName} has accessModes ${accessModes.join(', ')}`;
  if (!readOnly && !has('ReadWriteOnce', 'ReadWriteOncePod', 'ReadWriteMany')) {
    throw new Refusal(
      'ClaimAccessMode',
      `${subject}, hosts could not write: set readOnly: true, or use a claim with ReadWriteOnce`,
    );
  }
  const nodes = new Set([...ownNodes, ...others.flatMap(({ other }) => [...other.nodes])]);
  if (nodes.size > 1 && !has('ReadWriteMany') && !(readOnly && has('ReadOnlyMany'))) {
    throw new Refusal(
      'ClaimAccessMode',
      `${subject} and ${listNodes(nodes)}: use a claim with ${readOnly ? 'ReadOnlyMany' : 'ReadWriteMany'}, or narrow nodeSelector to one node`,
    );
  }
  if (ownNodes.size > 1 && file !== undefined && !readOnly) {
    throw new Refusal(
      'DataNotShared',
      `namespace ${nsid} is a file on PersistentVolumeClaim ${claimName} and ${listNodes(ownNodes)}: what several nodes write to one file does not keep together; use a claim with volumeMode Block, set readOnly: true, or narrow nodeSelector to one node`,
    );
  }
}

/** A pod that the scheduler cannot place would take the place of one that serves. */
function judgeTopology(
  { nsid, backend }: Use,
  claim: StoredClaim,
  nodes: ReadonlySet<string>,
  caches: ClaimCaches,
): void {
  const terms = caches.volumes.get(claim.spec.volumeName)?.spec.nodeAffinity?.required?.nodeSelectorTerms;
  if (terms === undefined) return;
  for (const name of nodes) {
    const node = caches.nodes.get(name);
    if (node === undefined || matchesAnyTerm(node, terms)) continue;
    throw new Refusal(
      'ClaimOnOtherNode',
      `namespace ${nsid}: node ${name} is selected, and the volume of PersistentVolumeClaim ${backend.claimName} (${claim.spec.volumeName}) is not to be had there: select the nodes of its nodeAffinity, or use another claim`,
    );
  }
}

/** Use of a claim by an older target. */
interface OlderUse {
  readonly other: OlderTarget;
  readonly use: Use;
}

function olderUses(namespace: string, older: readonly OlderTarget[]): ReadonlyMap<string, OlderUse[]> {
  // Claims belong to a Kubernetes namespace; a target's key is `<namespace>/<name>`.
  const neighbours = older.filter(({ key }) => key.startsWith(`${namespace}/`));
  const uses = neighbours.flatMap((other) => usesOf(other.spec.namespaces).map((use) => ({ other, use })));
  return Map.groupBy(uses, ({ use }) => use.backend.claimName);
}

function isSamePlace(left: ClaimBackend, right: ClaimBackend): boolean {
  return left.claimName === right.claimName && left.file?.name === right.file?.name;
}

/** Whoever writes somewhere else in a claim is in nobody's way, unless the claim is for one pod. */
function judgeWriters(
  { nsid, readOnly, backend }: Use,
  own: readonly Use[],
  others: readonly OlderUse[],
  claim: StoredClaim,
): void {
  const place = backend.file === undefined ? '' : `file ${backend.file.name} of `;
  const subject = `${place}PersistentVolumeClaim ${backend.claimName}`;
  const twin = own.find((use) => use.nsid !== nsid && !use.readOnly && isSamePlace(use.backend, backend));
  if (!readOnly && twin !== undefined) {
    throw new Refusal(
      'BackendConflict',
      `namespaces ${Math.min(nsid, twin.nsid)} and ${Math.max(nsid, twin.nsid)} both write to ${subject}: hosts would overwrite each other's data; give each its own, or set readOnly on one`,
    );
  }
  const writer = others.find(({ use }) => !use.readOnly && isSamePlace(use.backend, backend));
  if (!readOnly && writer !== undefined) {
    throw new Refusal(
      'BackendConflict',
      `namespace ${nsid} writes to ${subject}, and so does namespace ${writer.use.nsid} of NvmeofTarget ${writer.other.key}: hosts would overwrite each other's data; use another one, or set readOnly`,
    );
  }
  const [first] = others;
  if (first !== undefined && claim.spec.accessModes.includes('ReadWriteOncePod')) {
    throw new Refusal(
      'BackendConflict',
      `namespace ${nsid}: PersistentVolumeClaim ${backend.claimName} is for one pod only (ReadWriteOncePod), and NvmeofTarget ${first.other.key} uses it: use another claim`,
    );
  }
}

/** Throws a {@link Refusal} when a claim cannot be had, or must not be. */
export function judgeClaims(
  target: ClaimingTarget,
  older: readonly OlderTarget[],
  caches: ClaimCaches,
): ResolvedClaims {
  const byName = Map.groupBy(usesOf(target.spec.namespaces), ({ backend }) => backend.claimName);
  const elsewhere = byName.size === 0 ? new Map<string, OlderUse[]>() : olderUses(target.namespace, older);
  const capacities = new Map<string, number>();
  const unbound: string[] = [];
  for (const [claimName, uses] of byName) {
    const claim = caches.claims.get(`${target.namespace}/${claimName}`);
    const others = elsewhere.get(claimName) ?? [];
    const capacity = quantityToBytes(claim?.status.capacity.storage ?? '');
    for (const use of uses) {
      if (claim === undefined) {
        throw new Refusal(
          'ClaimNotFound',
          `namespace ${use.nsid}: there is no PersistentVolumeClaim ${claimName} in namespace ${target.namespace}: create it, or correct claimName`,
        );
      }
      judgeVolumeMode(use, claim);
      judgeBinding(use, claim, target.pods);
      judgeAccess(use, claim, target.nodes, others);
      judgeTopology(use, claim, target.nodes, caches);
      judgeWriters(use, uses, others, claim);
    }
    if (capacity !== undefined) {
      judgeSize(uses, capacity);
      capacities.set(claimName, capacity);
    }
    if (claim?.status.phase !== 'Bound') unbound.push(claimName);
  }
  return { capacities, unbound };
}
