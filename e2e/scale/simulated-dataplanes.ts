/**
 * Stands in for the dataplanes of thousands of nodes: as soon as the pod of a target runs on a node, and after every
 * change of the node's object, it writes the status that a dataplane would, all well. No I/O is served.
 */
import type { Logger } from 'pino';
import { DATAPLANE_FIELD_MANAGER, TARGET_LABEL } from '../../crds/api-group.ts';
import type { Api } from '../../operator/kubernetes/api-client.ts';
import { isNotFound } from '../../operator/kubernetes/api-error.ts';
import { objectKey } from '../../operator/kubernetes/object.ts';
import { Reflector } from '../../operator/kubernetes/reflector.ts';
import { apiVersionOf, objectPath, RESOURCES } from '../../operator/kubernetes/resource.ts';
import { type DataplanePod, isPodReady, parsePod } from '../../operator/target/cluster-objects.ts';
import { parseTargetNode, type StoredTargetNode } from '../../operator/target/nvmeof-target.ts';
import { WorkQueue } from '../../operator/work-queue/work-queue.ts';
import { runWorkers } from '../../operator/work-queue/workers.ts';

/** Statuses written at a time. */
const WORKERS = 8;

/** Told about every change of a node object's specification, at the time at which the watch shows it. */
export type SpecListener = (object: StoredTargetNode) => void;

/** See the module's comment. */
export class SimulatedDataplanes {
  readonly #api: Api;
  readonly #logger: Logger;
  readonly #queue = new WorkQueue();
  readonly #targetNodes: Reflector<StoredTargetNode>;
  readonly #pods: Reflector<DataplanePod>;
  /** Generation that was reported last, by key. */
  readonly #reported = new Map<string, number>();
  /** Called for every new or changed specification. */
  onSpec: SpecListener = () => undefined;

  constructor(api: Api, logger: Logger) {
    this.#api = api;
    this.#logger = logger;
    this.#targetNodes = new Reflector({
      api,
      logger,
      resource: RESOURCES.targetNodes,
      parse: parseTargetNode,
      groupOf: (object) => slotOf(object, object.spec.nodeName),
      onChange: (current, previous) => {
        if (current === undefined) return;
        const key = objectKey(current);
        // The operator, behind with what it knows of the pod, spoke in the dataplane's place: it reports again.
        if (previous?.status?.startTime !== undefined && current.status?.startTime === undefined) {
          this.#reported.delete(key);
          this.#queue.add(key);
        }
        if (current.metadata.generation === previous?.metadata.generation) return;
        this.onSpec(current);
        this.#queue.add(key);
      },
    });
    this.#pods = new Reflector({
      api,
      logger,
      resource: RESOURCES.pods,
      labelSelector: TARGET_LABEL,
      parse: parsePod,
      groupOf: (pod) => slotOf(pod, pod.spec.nodeName),
      onChange: (current, previous) => {
        if (current === undefined || !isPodReady(current) || (previous !== undefined && isPodReady(previous)))
          return;
        const slot = slotOf(current, current.spec.nodeName);
        for (const object of slot === undefined ? [] : this.#targetNodes.inGroup(slot)) {
          this.#reported.delete(objectKey(object));
          this.#queue.add(objectKey(object));
        }
      },
    });
  }

  /** Node objects that exist. */
  get size(): number {
    return [...this.#targetNodes.values()].length;
  }

  /** Reports until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#queue.shutDown(), { once: true });
    const observer = { began: () => undefined, ended: () => undefined };
    await Promise.all([
      this.#targetNodes.run(signal),
      this.#pods.run(signal),
      runWorkers(this.#queue, (key) => this.#report(key), { count: WORKERS, logger: this.#logger, observer }),
    ]);
  }

  async #report(key: string): Promise<undefined> {
    const object = this.#targetNodes.get(key);
    const { generation = 0, name, namespace = '' } = object?.metadata ?? { name: '' };
    if (object === undefined || this.#reported.get(key) === generation) return;
    const pod = this.#pods.inGroup(slotOf(object, object.spec.nodeName) ?? '').find(isPodReady);
    const startTime = pod?.status.containerStatuses[0]?.state.running?.startedAt;
    if (startTime === undefined) return; // It comes back when the pod is ready.
    const { targetNodes } = RESOURCES;
    const body = {
      apiVersion: apiVersionOf(targetNodes),
      kind: targetNodes.kind,
      metadata: { name, namespace },
      status: servingStatus(generation, startTime),
    };
    try {
      await this.#api.apply(
        objectPath(targetNodes, { name, namespace }, 'status'),
        body,
        DATAPLANE_FIELD_MANAGER,
      );
      this.#reported.set(key, generation);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

/** Namespace, target and node: where one dataplane runs. */
function slotOf(
  child: { readonly metadata: DataplanePod['metadata'] },
  node: string | undefined,
): string | undefined {
  const target = child.metadata.labels?.[TARGET_LABEL];
  if (target === undefined || node === undefined) return undefined;
  return `${child.metadata.namespace}/${target}/${node}`;
}

function servingStatus(observedGeneration: number, startTime: string): object {
  const condition = (type: string, status: 'True' | 'False') => ({
    type,
    status,
    reason: 'Simulated',
    message: 'told by the load generator of the scale test',
    lastTransitionTime: startTime,
  });
  const conditions = ['ListenersReady', 'LinksUp', 'DeviceHealthy', 'Ready'].map((type) =>
    condition(type, 'True'),
  );
  return {
    observedGeneration,
    startTime,
    connectedHosts: 0,
    listeners: [{ name: 'storage', address: '10.9.0.1', port: 4420, phase: 'Serving', reason: 'Simulated' }],
    hosts: [],
    conditions: [...conditions, condition('Degraded', 'False')],
  };
}
