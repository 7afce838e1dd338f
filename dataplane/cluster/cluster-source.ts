import { KubeConfig } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import { DATAPLANE_FIELD_MANAGER } from '../../crds/api-group.ts';
import type { Condition } from '../../crds/condition.ts';
import {
  type NvmeofTargetNodeSpec,
  type NvmeofTargetNodeStatus,
  nvmeofTargetNodeSpecSchema,
} from '../../crds/nvmeof-target-node.ts';
import type { Silence } from '../../crds/silent-status.ts';
import { formatProblems, problemsOf } from '../../crds/validation.ts';
import { type Api, ApiClient } from '../../operator/kubernetes/api-client.ts';
import { namesCluster } from '../../operator/kubernetes/kubeconfig.ts';
import type { KubernetesObject } from '../../operator/kubernetes/object.ts';
import { Reflector } from '../../operator/kubernetes/reflector.ts';
import { apiVersionOf, objectPath, RESOURCES } from '../../operator/kubernetes/resource.ts';
import { applyKnownFields } from '../../operator/kubernetes/undeclared-fields.ts';
import { askCluster, ScrapeAccess } from '../../operator/observability/scrape-access.ts';
import type { Core } from '../core/core.ts';
import { CoreError } from '../core/errors.ts';
import type { Dataplane } from '../dataplane.ts';
import type { FollowedSource, Source } from '../source.ts';
import { ClusterUnavailableError } from './cluster-unavailable-error.ts';
import type { Refusal } from './conditions.ts';
import { EventReporter } from './event-reporter.ts';
import { OutageHistory, type ReportedStatus } from './outage-history.ts';
import { buildFarewell, buildStatus, type StatusInput } from './status.ts';
import { StatusWriter } from './status-writer.ts';

/** Which object, and what is known of it before it was read. */
export interface ClusterSourceOptions {
  namespace: string;
  name: string;
  node: string;
  target: string;
  /** Pod that this runs in, if it runs in one. */
  pod?: string | undefined;
}

/** An NvmeofTargetNode as it is read; the spec is checked when it is served. */
export interface TargetNodeObject extends KubernetesObject {
  readonly spec: unknown;
  /** As it was reported last, by this process or another. */
  readonly status: ReportedStatus;
  /** `status.startTime`: which process reported last; absent when none stands for the status. */
  readonly startTime: string | undefined;
}

/**
 * Desired states from one NvmeofTargetNode, whose status is kept as things are here.
 *
 * @param api for tests; else the cluster of the pod or of the kubeconfig.
 * @throws {ClusterUnavailableError}
 */
export function clusterSource(
  options: ClusterSourceOptions,
  version: string,
  api: Api = clusterApi(),
): Source {
  return {
    identity: { target: options.target, node: options.node },
    start: (dataplane, core, logger) =>
      new FollowedNode(options, version, api, dataplane, core, logger).start(),
  };
}

class FollowedNode implements FollowedSource {
  readonly #options: ClusterSourceOptions;
  readonly #version: string;
  readonly #api: Api;
  readonly #dataplane: Dataplane;
  readonly #logger: Logger;
  readonly #status: StatusWriter;
  readonly #events: EventReporter;
  readonly #outages = new OutageHistory();
  readonly #stopped = new AbortController();
  readonly #startTime = new Date(Date.now() - process.uptime() * 1000);
  #farewell: Silence | undefined;
  #object: TargetNodeObject | undefined;
  /** What came of the object as it is now. */
  #judged: { generation: number; refusal: Refusal | undefined; served: boolean } | undefined;
  #conditions: readonly Condition[] = [];

  constructor(
    options: ClusterSourceOptions,
    version: string,
    api: Api,
    dataplane: Dataplane,
    core: Core,
    logger: Logger,
  ) {
    this.#options = options;
    this.#version = version;
    this.#api = api;
    this.#dataplane = dataplane;
    this.#logger = logger;
    this.#status = new StatusWriter(
      () => this.#buildStatus(),
      (status) => this.#applyStatus(status),
      logger,
    );
    this.#events = new EventReporter(api, options, logger);
    core.onEvent((event) => {
      this.#events.observe(event);
      this.#outages.observe(event);
    });
  }

  start(): FollowedSource {
    const { namespace, name } = this.#options;
    const reflector = new Reflector<TargetNodeObject>({
      api: this.#api,
      resource: RESOURCES.targetNodes,
      namespace,
      fieldSelector: `metadata.name=${name}`,
      parse: parseTargetNode,
      onChange: (object) => this.#changed(object),
      logger: this.#logger,
    });
    void reflector.run(this.#stopped.signal);
    this.#status.start();
    return this;
  }

  stop(): void {
    this.#stopped.abort();
  }

  async finish(farewell: Silence): Promise<void> {
    this.#farewell = farewell;
    await this.#status.stop();
    await this.#events.flush();
  }

  #changed(object: TargetNodeObject | undefined): void {
    const before = this.#object;
    this.#object = object;
    this.#events.setObject(object);
    if (object === undefined) {
      // The pod goes when its DaemonSet does; until then nobody has asked to cut the hosts.
      this.#logger.warn('the NvmeofTargetNode was deleted; what was served is served on');
      return;
    }
    if (before?.metadata.uid !== object.metadata.uid) {
      this.#conditions = object.status.conditions ?? [];
      this.#outages.restore(object.status, this.#startTime);
      this.#judged = undefined;
      this.#status.forget();
    }
    // The operator took this process for dead, and spoke in its place: what is true is written again.
    if (before?.startTime !== undefined && object.startTime === undefined) this.#status.forget();
    const generation = object.metadata.generation ?? 0;
    // Most changes are those of the status, by ourselves.
    if (this.#judged?.generation === generation) return;
    this.#judged = { generation, ...this.#serve(generation, object.spec) };
  }

  #serve(generation: number, written: unknown): { refusal: Refusal | undefined; served: boolean } {
    const spec = nvmeofTargetNodeSpecSchema.safeParse(written, { reportInput: true });
    if (!spec.success)
      return this.#refuse(generation, 'InvalidSpec', formatProblems(problemsOf(spec.error, 'spec')));
    const misplaced = this.#misplaced(spec.data);
    if (misplaced !== undefined) return this.#refuse(generation, 'WrongNode', misplaced);
    try {
      const served = this.#dataplane.apply({ generation, spec: this.#withOwnPaths(spec.data) });
      this.#logger.info({ generation, paused: !served }, 'desired state received');
      return { refusal: undefined, served };
    } catch (error) {
      if (!(error instanceof CoreError)) throw error;
      return this.#refuse(generation, error.reason, error.message);
    }
  }

  /** What is said of the paths of another pod, most often of the one before, does not hold here. */
  #withOwnPaths(spec: NvmeofTargetNodeSpec): NvmeofTargetNodeSpec {
    const { paths, ...rest } = spec;
    const isOwn = paths?.ofPod === undefined || paths.ofPod === this.#options.pod;
    return isOwn ? spec : rest;
  }

  #misplaced(spec: NvmeofTargetNodeSpec): string | undefined {
    const { node } = this.#options;
    if (node === '' || spec.nodeName === node) return undefined;
    return `spec.nodeName is ${spec.nodeName}, but this dataplane runs on ${node}`;
  }

  #refuse(generation: number, reason: string, message: string) {
    this.#dataplane.countReloadFailure();
    this.#logger.error(
      { generation, reason },
      `desired state refused, the last good one is served on: ${message}`,
    );
    return { refusal: { reason, message }, served: false };
  }

  #buildStatus(): NvmeofTargetNodeStatus | undefined {
    if (this.#object === undefined || this.#judged === undefined) return undefined;
    const stats = this.#dataplane.stats();
    const { generation, refusal, served } = this.#judged;
    const input: StatusInput = {
      stats,
      // What is served is told of the generation that is served: the core takes a moment to get there.
      generation: served ? Math.min(stats.generation, generation) : generation,
      refusal,
      node: this.#options.node || 'the node',
      version: this.#version,
      startTime: this.#startTime,
      previous: this.#conditions,
      outagesOf: (listener) => this.#outages.of(listener),
      now: new Date(),
    };
    const status = this.#farewell === undefined ? buildStatus(input) : buildFarewell(input, this.#farewell);
    this.#conditions = status.conditions ?? [];
    return status;
  }

  async #applyStatus(status: NvmeofTargetNodeStatus): Promise<void> {
    const { namespace, name } = this.#options;
    const object = {
      apiVersion: apiVersionOf(RESOURCES.targetNodes),
      kind: RESOURCES.targetNodes.kind,
      metadata: { namespace, name },
      status,
    };
    const path = objectPath(RESOURCES.targetNodes, { namespace, name }, 'status');
    // After a rollback of the chart the CRD is older than this: what it knows is told all the same.
    await applyKnownFields(object, (known) => this.#api.apply(path, known, DATAPLANE_FIELD_MANAGER));
  }
}

function parseTargetNode(raw: unknown): TargetNodeObject {
  const object = raw as KubernetesObject & {
    spec?: unknown;
    status?: ReportedStatus & { startTime?: string };
  };
  return {
    metadata: object.metadata,
    spec: object.spec,
    status: object.status ?? {},
    startTime: object.status?.startTime,
  };
}

/**
 * The cluster of the pod or of the kubeconfig.
 *
 * @throws {ClusterUnavailableError}
 */
function clusterConfig(): KubeConfig {
  const config = new KubeConfig();
  config.loadFromDefault();
  if (!namesCluster(config)) {
    throw new ClusterUnavailableError(
      'no cluster: neither the credentials of a pod nor a kubeconfig were found; to serve without a cluster use --config',
    );
  }
  return config;
}

function clusterApi(): Api {
  return new ApiClient(clusterConfig());
}

/**
 * Who may read this process's metrics, by the word of the cluster.
 *
 * @throws {ClusterUnavailableError}
 */
export function clusterScrapeAccess(): ScrapeAccess {
  return new ScrapeAccess(askCluster(clusterConfig()));
}
