/** The targets of the cluster seen together: who is older, who runs where, who has which port. */
import { type NvmeofTargetSpec, nvmeofTargetSpecSchema } from '../../crds/nvmeof-target.ts';
import { childName } from '../../crds/object-names.ts';
import { derivedNqn } from '../../crds/qualified-name.ts';
import { InvalidInputError, parseOrExplain } from '../../crds/validation.ts';
import { METRICS_PORT_ANNOTATION } from '../build/daemon-set.ts';
import type { Cache } from '../kubernetes/cache.ts';
import { objectKey } from '../kubernetes/object.ts';
import type { PortRange } from '../settings.ts';
import type { ClusterNode, DataplaneDaemonSet } from './cluster-objects.ts';
import type { OlderTarget } from './judge.ts';
import { assignMetricsPort } from './metrics-port.ts';
import { selectedNodes } from './node-selection.ts';
import type { StoredTarget } from './nvmeof-target.ts';

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

/** See the module's comment. What is costly is computed once per version of an object. */
export class Fleet {
  readonly #caches: FleetCaches;
  readonly #parsed = new WeakMap<StoredTarget, Parsed>();
  #selected = new WeakMap<StoredTarget, ReadonlySet<string>>();
  /** Ports given out that a cached DaemonSet may not show yet. */
  readonly #ports = new Map<string, number>();

  constructor(caches: FleetCaches) {
    this.#caches = caches;
  }

  /** Says that a node came, went or changed its labels or taints. */
  nodesChanged(): void {
    this.#selected = new WeakMap();
  }

  /** Forgets a target that is gone. */
  forget(key: string): void {
    this.#ports.delete(key);
  }

  /** The spec of a target; throws an {@link InvalidInputError} when it does not fit the schema. */
  specOf(target: StoredTarget): NvmeofTargetSpec {
    let parsed = this.#parsed.get(target);
    if (parsed === undefined) {
      try {
        parsed = { spec: parseOrExplain(nvmeofTargetSpecSchema, target.spec, objectKey(target), 'spec') };
      } catch (error) {
        if (!(error instanceof InvalidInputError)) throw error;
        parsed = { error };
      }
      this.#parsed.set(target, parsed);
    }
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
    let nodes = this.#selected.get(target);
    if (nodes === undefined) {
      nodes = new Set(selectedNodes(this.#caches.nodes.values(), spec));
      this.#selected.set(target, nodes);
    }
    return nodes;
  }

  /** Targets that were there before this one and can be read: they win every conflict. */
  olderThan(target: StoredTarget): OlderTarget[] {
    return this.#others(target).flatMap(({ other, spec }) =>
      isOlder(other, target)
        ? [{ key: objectKey(other), nqn: this.nqnOf(other, spec), spec, nodes: this.nodesOf(other, spec) }]
        : [],
    );
  }

  /** The port of a target, given out for good; undefined when the range is used up. */
  assignPort(target: StoredTarget, spec: NvmeofTargetSpec, range: PortRange): number | undefined {
    const own = { port: this.#portOf(target), nodes: this.nodesOf(target, spec) };
    const others = this.#others(target).map(({ other, spec: otherSpec }) => ({
      port: this.#portOf(other),
      nodes: this.nodesOf(other, otherSpec),
      precedes: isOlder(other, target),
    }));
    const port = assignMetricsPort(own, others, range);
    if (port !== undefined) this.#ports.set(objectKey(target), port);
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

  #others(target: StoredTarget): { other: StoredTarget; spec: NvmeofTargetSpec }[] {
    const others: { other: StoredTarget; spec: NvmeofTargetSpec }[] = [];
    for (const other of this.#caches.targets.values()) {
      if (other.metadata.uid === target.metadata.uid) continue;
      try {
        others.push({ other, spec: this.specOf(other) });
      } catch (error) {
        if (!(error instanceof InvalidInputError)) throw error; // An unreadable neighbour is in nobody's way.
      }
    }
    return others;
  }
}
