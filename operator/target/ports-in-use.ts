/**
 * Ports of nodes that pods have now, whatever their target asks for by now: the pod of before keeps its port until it
 * has gone.
 */
import { objectKey } from '../kubernetes/object.ts';
import { type DataplanePod, isPodAlive } from './cluster-objects.ts';

/** A pod's ports on its node. */
interface Use {
  /** `<namespace>/<name>` of the pod's target. */
  readonly target: string;
  readonly ports: readonly number[];
}

function useOf(target: string, pod: DataplanePod | undefined): Use | undefined {
  if (pod === undefined || pod.spec.hostPorts.length === 0 || !isPodAlive(pod)) return undefined;
  return { target, ports: pod.spec.hostPorts };
}

/** See the module's comment. */
export class PortsInUse {
  /** By node, by the pod's key. */
  readonly #uses = new Map<string, Map<string, Use>>();

  /** Takes up that a pod of the target came, went or changed. Returns whether a port became free. */
  podChanged(target: string, current: DataplanePod | undefined, previous: DataplanePod | undefined): boolean {
    const isFreed = previous !== undefined && this.#remove(previous);
    const use = useOf(target, current);
    const node = current?.spec.nodeName;
    if (current === undefined || use === undefined || node === undefined) return isFreed;
    const uses = this.#uses.get(node) ?? new Map<string, Use>();
    this.#uses.set(node, uses.set(objectKey(current), use));
    return false;
  }

  /** Ports that pods of other targets have on any of the nodes. */
  byOthers(target: string, nodes: Iterable<string>): Set<number> {
    const ports = new Set<number>();
    for (const node of nodes)
      for (const use of this.#uses.get(node)?.values() ?? [])
        if (use.target !== target) for (const port of use.ports) ports.add(port);
    return ports;
  }

  #remove(pod: DataplanePod): boolean {
    const node = pod.spec.nodeName ?? '';
    const uses = this.#uses.get(node);
    const isRemoved = uses?.delete(objectKey(pod)) === true;
    if (uses?.size === 0) this.#uses.delete(node);
    return isRemoved;
  }
}
