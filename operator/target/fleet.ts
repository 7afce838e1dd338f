/** The targets of the cluster seen together: who is older, who runs where, who has which port. */
import { isOnHostNetwork } from '../../crds/network.ts';
import { type NvmeofTargetSpec, nvmeofTargetSpecSchema } from '../../crds/nvmeof-target.ts';
import { childName } from '../../crds/object-names.ts';
import { derivedNqn } from '../../crds/qualified-name.ts';
import { InvalidInputError, parseOrExplain } from '../../crds/validation.ts';
import { METRICS_PORT_ANNOTATION } from '../build/daemon-set.ts';
import { nodeNqn } from '../build/target-node.ts';
import type { Cache } from '../kubernetes/cache.ts';
import { objectKey } from '../kubernetes/object.ts';
import type { PortRange } from '../settings.ts';
import type { ClusterNode, DataplaneDaemonSet, DataplanePod } from './cluster-objects.ts';
import type { OlderTarget } from './judge.ts';
import { claimNames } from './judge-claims.ts';
import { assignMetricsPort } from './metrics-port.ts';
import { Neighbourhood } from './neighbourhood.ts';
import { isSelected, selectedNodes } from './node-selection.ts';
import type { StoredTarget } from './nvmeof-target.ts';
import { PortsInUse } from './ports-in-use.ts';

/** Caches that the fleet is seen through. */
export interface FleetCaches {
  readonly targets: Cache<StoredTarget>;
  readonly daemonSets: Cache<DataplaneDaemonSet>;
  readonly nodes: Cache<ClusterNode>;
}

type Parsed = { readonly spec: NvmeofTargetSpec } | { readonly error: InvalidInputError };

/** Whether `left` was there before `right`; of two made in one second, the one whose name sorts first. */
function isOlder(left: StoredTarget, right: StoredTarget): boolean {
  const [leftTime, rightTime] = [
    left.metadata.creationTimestamp ?? '',
    right.metadata.creationTimestamp ?? '',
  ];
  if (leftTime !== rightTime) return leftTime < rightTime;
  return objectKey(left) < objectKey(right);
}

/** What is costly to know of one version of a target's specification. */
interface Entry {
  readonly uid: string | undefined;
  readonly generation: number | undefined;
  readonly parsed: Parsed;
  /** Changes with the cluster's nodes. */
  nodes: ReadonlySet<string>;
}

function isOf(entry: Entry | undefined, target: StoredTarget): entry is Entry {
  return entry?.uid === target.metadata.uid && entry?.generation === target.metadata.generation;
}

function parse(target: StoredTarget): Parsed {
  try {
    return { spec: parseOrExplain(nvmeofTargetSpecSchema, target.spec, objectKey(target), 'spec') };
  } catch (error) {
    if (!(error instanceof InvalidInputError)) throw error;
    return { error };
  }
}

/**
 * See the module's comment. It is told of every change of a target or node, so that a pass over one target costs what
 * its neighbours cost, however many others there are.
 */
export class Fleet {
  readonly #caches: FleetCaches;
  readonly #entries = new Map<string, Entry>();
  readonly #neighbourhood = new Neighbourhood();
  /** Ports given out that a cached DaemonSet may not show yet. */
  readonly #ports = new Map<string, number>();
  readonly #portsInUse = new PortsInUse();
  /** Targets that no port was left for. */
  readonly #withoutPort = new Set<string>();

  constructor(caches: FleetCaches) {
    this.#caches = caches;
  }

  /** Says that a target came, went or changed. */
  targetChanged(current: StoredTarget | undefined, previous: StoredTarget | undefined): void {
    const target = current ?? previous;
    if (target === undefined) return;
    const key = objectKey(target);
    if (current === undefined) this.#entries.delete(key);
    else if (isOf(this.#entries.get(key), current)) return;
    else this.#entries.set(key, this.#entryOf(current));
    this.#settle(key, current);
  }

  /** Says that a node came, went or changed its labels or taints. Returns the keys of the targets it matters to. */
  nodeChanged(current: ClusterNode | undefined, previous: ClusterNode | undefined): string[] {
    const name = (current ?? previous)?.metadata.name ?? '';
    const concerned: string[] = [];
    for (const [key, entry] of this.#entries) {
      if (!('spec' in entry.parsed)) continue;
      const { spec } = entry.parsed;
      const [was, is] = [entry.nodes.has(name), current !== undefined && isSelected(current, spec)];
      if (was !== is) {
        const others = [...entry.nodes].filter((other) => other !== name);
        entry.nodes = new Set(is ? [...others, name].sort() : others);
        this.#settle(key, this.#caches.targets.get(key));
      }
      // A pod that is there may stay where none would be put.
      const mayStay = [current, previous].some((node) => node !== undefined && isSelected(node, spec, true));
      if (was || is || mayStay) concerned.push(key);
    }
    return concerned;
  }

  /** Says that a pod of a target came, went or changed. Returns the keys of the targets that wait for a port it had. */
  podChanged(
    target: string,
    current: DataplanePod | undefined,
    previous: DataplanePod | undefined,
  ): string[] {
    return this.#portsInUse.podChanged(target, current, previous) ? [...this.#withoutPort] : [];
  }

  /** Forgets a target that is gone. */
  forget(key: string): void {
    this.#ports.delete(key);
    this.#withoutPort.delete(key);
  }

  /** The spec of a target; throws an {@link InvalidInputError} when it does not fit the schema. */
  specOf(target: StoredTarget): NvmeofTargetSpec {
    const entry = this.#entries.get(objectKey(target));
    const parsed = isOf(entry, target) ? entry.parsed : parse(target);
    if ('error' in parsed) throw parsed.error;
    return parsed.spec;
  }

  /** The NQN of a target, before any per-node suffix. */
  nqnOf(target: StoredTarget, spec: NvmeofTargetSpec): string {
    const { namespace = '', name, uid = '' } = target.metadata;
    return spec.nqn ?? derivedNqn(namespace, name, uid);
  }

  /** Names of the nodes that a target should run on, in order. */
  nodesOf(target: StoredTarget, spec: NvmeofTargetSpec): ReadonlySet<string> {
    const entry = this.#entries.get(objectKey(target));
    return isOf(entry, target) ? entry.nodes : new Set(selectedNodes(this.#caches.nodes.values(), spec));
  }

  /** Targets that were there before this one and share a node, an NQN or a claim with it, the oldest first: they win. */
  olderThan(target: StoredTarget): OlderTarget[] {
    return this.#neighbours(target)
      .filter(({ other }) => isOlder(other, target))
      .sort((left, right) => (isOlder(left.other, right.other) ? -1 : 1))
      .map(({ other, spec }) => ({
        key: objectKey(other),
        nqn: this.nqnOf(other, spec),
        spec,
        nodes: this.nodesOf(other, spec),
      }));
  }

  /**
   * The port of a target, given out for good; undefined when the range is used up. Pods off the host network have all
   * ports to themselves, and use the first. What a pod has on a node goes to no other target before the pod has gone,
   * whatever its own target asks for by now.
   */
  assignPort(target: StoredTarget, spec: NvmeofTargetSpec, range: PortRange): number | undefined {
    const key = objectKey(target);
    this.#withoutPort.delete(key);
    if (!isOnHostNetwork(spec)) {
      this.#ports.delete(key);
      return range.first;
    }
    const own = { port: this.#portOf(target), nodes: this.nodesOf(target, spec) };
    const others = this.#neighbours(target)
      .filter((neighbour) => isOnHostNetwork(neighbour.spec))
      .map(({ other, spec: otherSpec }) => ({
        port: this.#portOf(other),
        nodes: this.nodesOf(other, otherSpec),
        precedes: isOlder(other, target),
      }));
    const port = assignMetricsPort(own, others, range, () => this.#portsInUse.byOthers(key, own.nodes));
    if (port === undefined) this.#withoutPort.add(key);
    else this.#ports.set(key, port);
    return port;
  }

  #portOf(target: StoredTarget): number | undefined {
    const key = objectKey(target);
    const reserved = this.#ports.get(key);
    if (reserved !== undefined) return reserved;
    const name = `${target.metadata.namespace}/${childName(target.metadata.name)}`;
    const annotation = this.#caches.daemonSets.get(name)?.metadata.annotations?.[METRICS_PORT_ANNOTATION];
    const port = Number(annotation);
    return annotation === undefined || !Number.isInteger(port) ? undefined : port;
  }

  #entryOf(target: StoredTarget): Entry {
    const { uid, generation } = target.metadata;
    const parsed = parse(target);
    const nodes = 'spec' in parsed ? selectedNodes(this.#caches.nodes.values(), parsed.spec) : [];
    return { uid, generation, parsed, nodes: new Set(nodes) };
  }

  /** Keeps the neighbourhood as the entry of a target has it. */
  #settle(key: string, target: StoredTarget | undefined): void {
    const entry = this.#entries.get(key);
    // One that cannot be read is in nobody's way.
    if (target === undefined || entry === undefined || !('spec' in entry.parsed)) {
      this.#neighbourhood.set(key, undefined);
      return;
    }
    const { spec } = entry.parsed;
    const nqn = this.nqnOf(target, spec);
    const ownNqns = [...entry.nodes].map((node) => nodeNqn(nqn, spec.scope, node));
    const claims = [...claimNames(spec)].map((name) => `${target.metadata.namespace}/${name}`);
    this.#neighbourhood.set(key, {
      nodes: entry.nodes,
      nqns: new Set([nqn, ...ownNqns]),
      claims: new Set(claims),
    });
  }

  #neighbours(target: StoredTarget): { other: StoredTarget; spec: NvmeofTargetSpec }[] {
    return [...this.#neighbourhood.of(objectKey(target))].flatMap((key) => {
      const [other, entry] = [this.#caches.targets.get(key), this.#entries.get(key)];
      return other === undefined || entry === undefined || !('spec' in entry.parsed)
        ? []
        : [{ other, spec: entry.parsed.spec }];
    });
  }
}
