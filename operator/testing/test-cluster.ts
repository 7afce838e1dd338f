/** A real API server for tests, with the CRDs, and stand-ins for what a cluster would add: nodes, pods, dataplanes. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { parse } from 'yaml';
import { DATAPLANE_FIELD_MANAGER, GROUP, TARGET_LABEL } from '../../crds/api-group.ts';
import { targetNodeName } from '../../crds/object-names.ts';
import { type ApiServer, startApiServer } from '../../lab/control-plane/api-server.ts';
import { writeKubeconfig } from '../../lab/control-plane/kubeconfig.ts';
import { TEMPLATE_HASH_ANNOTATION } from '../build/daemon-set.ts';
import { ApiClient } from '../kubernetes/api-client.ts';
import { isNotFound } from '../kubernetes/api-error.ts';
import { withBearerToken } from '../kubernetes/bearer.ts';
import { apiVersionOf, listPath, objectPath, RESOURCES, type Resource } from '../kubernetes/resource.ts';

/** Longest wait for something that the operator or the API server does. */
const WAIT_TIMEOUT_MS = 30_000;

const CRDS: Resource = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  kind: 'CustomResourceDefinition',
  plural: 'customresourcedefinitions',
  namespaced: false,
};

/** Any object, as tests look at it. */
export interface AnyObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly generation?: number;
    readonly resourceVersion: string;
    readonly deletionTimestamp?: string;
    readonly labels?: Record<string, string>;
    readonly annotations?: Record<string, string>;
    readonly finalizers?: string[];
    readonly ownerReferences?: object[];
  };
  // biome-ignore lint/suspicious/noExplicitAny: tests read fields of every kind; expectations check them.
  readonly [field: string]: any;
}

/** A write as the API server saw it. Times in milliseconds since the epoch. */
export interface AuditedWrite {
  readonly user: string;
  readonly verb: string;
  readonly resource: string;
  readonly receivedMs: number;
  readonly answeredMs: number;
}

interface AuditLine {
  readonly user: { readonly username: string };
  readonly verb: string;
  readonly objectRef?: { readonly resource?: string };
  readonly requestReceivedTimestamp: string;
  readonly stageTimestamp: string;
}

/** See the module's comment. */
export class TestCluster {
  readonly directory: string;
  #server: ApiServer;
  readonly config = new KubeConfig();
  readonly api: ApiClient;

  private constructor(directory: string, server: ApiServer) {
    this.directory = directory;
    this.#server = server;
    this.config.loadFromFile(server.kubeconfig);
    this.api = new ApiClient(this.config);
  }

  /** Starts etcd and an API server on loopback and installs the CRDs, unless the test does so itself. */
  static async start(options: { crds?: false; auditWrites?: true } = {}): Promise<TestCluster> {
    const directory = mkdtempSync(join(tmpdir(), 'weir-test-'));
    const audit = options.auditWrites === true ? ({ auditWrites: true } as const) : {};
    const cluster = new TestCluster(directory, await startApiServer({ dir: directory, ...audit }));
    if (options.crds === false) return cluster;
    for (const plural of [RESOURCES.targets.plural, RESOURCES.targetNodes.plural]) {
      const file = new URL(`../../crds/generated/${GROUP}_${plural}.yaml`, import.meta.url);
      const crd = parse(await readFile(file, 'utf8')) as { metadata: { name: string } };
      await cluster.api.apply(objectPath(CRDS, crd.metadata), crd, 'test');
      await cluster.waitFor(`CRD ${plural}`, async () => {
        const object = (await cluster.api.get(objectPath(CRDS, crd.metadata))) as AnyObject;
        const conditions = (object['status']?.conditions ?? []) as { type: string; status: string }[];
        return conditions.some(({ type, status }) => type === 'Established' && status === 'True');
      });
    }
    return cluster;
  }

  /** Path of an administrator's kubeconfig. */
  get kubeconfig(): string {
    return this.#server.kubeconfig;
  }

  /** The API server, for what else is to run beside it. */
  get server(): ApiServer {
    return this.#server;
  }

  /** Where the API server listens, on loopback. */
  get port(): number {
    return this.#server.port;
  }

  /** Writes a kubeconfig of another administrator, who may reach the server by another port, and returns its path. */
  async kubeconfigOf(user: string, port = this.port): Promise<string> {
    const { authority } = this.#server;
    const path = join(this.directory, `${user}.kubeconfig`);
    writeKubeconfig({
      path,
      server: `https://127.0.0.1:${port}`,
      caCertificate: authority.certificate,
      user,
      client: await authority.issue(user, { commonName: user, organization: 'system:masters' }),
    });
    return path;
  }

  /** The writes of a user, in the order in which they were answered; of a cluster started with `auditWrites`. */
  writesOf(user: string): AuditedWrite[] {
    const lines = readFileSync(join(this.directory, 'audit.log'), 'utf8').split('\n');
    // The last line may be incomplete.
    return lines.slice(0, -1).flatMap((line) => {
      const { verb, objectRef, ...event } = JSON.parse(line) as AuditLine;
      if (event.user.username !== user) return [];
      const receivedMs = Date.parse(event.requestReceivedTimestamp);
      const answeredMs = Date.parse(event.stageTimestamp);
      return [{ user, verb, resource: objectRef?.resource ?? '', receivedMs, answeredMs }];
    });
  }

  /** Ends everything and leaves nothing behind. */
  async stop(): Promise<void> {
    this.api.close();
    await this.#server.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Takes the API server away; etcd keeps the objects. */
  async stopApiServer(): Promise<void> {
    await this.#server.stopApiServer();
  }

  /** Takes the API server and its etcd away; the objects are kept. */
  async stopControlPlane(): Promise<void> {
    await this.#server.stop();
  }

  /** Brings the API server back under the same address. */
  async startApiServer(): Promise<void> {
    this.#server = await startApiServer({ dir: this.directory });
  }

  /** A kubeconfig for whoever holds the token. */
  configFor(token: string): KubeConfig {
    return withBearerToken(this.config, token);
  }

  /** A token of a ServiceAccount: bound to one of its pods as the kubelet would mount it, or to nothing. */
  async accountToken(namespace: string, name: string, pod?: string): Promise<string> {
    const uid = pod && (await this.find(RESOURCES.pods, pod, namespace))?.metadata.uid;
    const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: pod, uid };
    const path = `${objectPath(RESOURCES.serviceAccounts, { namespace, name })}/token`;
    const spec = pod === undefined ? {} : { boundObjectRef };
    const answer = (await this.api.create(path, { spec })) as { status: { token: string } };
    return answer.status.token;
  }

  /** Waits until `check` gives something truthy, and returns it; failures of `check` count as "not yet". */
  async waitFor<T>(what: string, check: () => Promise<T>): Promise<NonNullable<T>> {
    const deadline = Date.now() + WAIT_TIMEOUT_MS;
    let last: unknown;
    while (Date.now() < deadline) {
      try {
        const value = await check();
        if (value) return value;
        last = undefined;
      } catch (error) {
        last = error;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`timed out waiting for ${what}`, { cause: last });
  }

  /** Reads an object; undefined when there is none. */
  async find(resource: Resource, name: string, namespace?: string): Promise<AnyObject | undefined> {
    try {
      const id = namespace === undefined ? { name } : { name, namespace };
      return (await this.api.get(objectPath(resource, id))) as AnyObject;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  /** Every object of a kind in a namespace. */
  async list(resource: Resource, namespace: string): Promise<AnyObject[]> {
    return ((await this.api.get(listPath(resource, namespace))) as { items: AnyObject[] }).items;
  }

  /** Makes a namespace. */
  async createNamespace(name: string, labels: Record<string, string> = {}): Promise<void> {
    await this.api.create(listPath(RESOURCES.namespaces), { metadata: { name, labels } });
  }

  /** Makes a node that pods may run on. */
  async createNode(name: string, labels: Record<string, string> = {}): Promise<void> {
    await this.api.create(listPath(RESOURCES.nodes), {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name, labels },
    });
    // The API server taints new nodes as not ready; nothing here would take the taint off.
    await this.api.mergePatch(objectPath(RESOURCES.nodes, { name }), { spec: { taints: null } });
  }

  /** Makes a claim. Nothing here binds claims: see {@link bindClaim}. */
  async createClaim(
    namespace: string,
    name: string,
    volumeMode: 'Block' | 'Filesystem',
    more: { accessModes?: readonly string[]; volumeName?: string } = {},
  ): Promise<void> {
    await this.api.create(listPath(RESOURCES.persistentVolumeClaims, namespace), {
      metadata: { name },
      spec: {
        accessModes: ['ReadWriteOnce'],
        volumeMode,
        storageClassName: '',
        resources: { requests: { storage: '1Gi' } },
        ...more,
      },
    });
  }

  /** Makes the volume of a claim, to be had on one node only. */
  async createLocalVolume(
    name: string,
    claimRef: { readonly namespace: string; readonly name: string },
    nodeName: string,
  ): Promise<void> {
    const term = { matchFields: [{ key: 'metadata.name', operator: 'In', values: [nodeName] }] };
    await this.api.create(listPath(RESOURCES.persistentVolumes), {
      metadata: { name },
      spec: {
        accessModes: ['ReadWriteOnce'],
        volumeMode: 'Block',
        capacity: { storage: '1Gi' },
        claimRef,
        local: { path: '/dev/vdc' },
        nodeAffinity: { required: { nodeSelectorTerms: [term] } },
      },
    });
  }

  /** What the controllers of volumes and of their growth would report: the claim is bound to so much. */
  async bindClaim(namespace: string, name: string, capacity: string): Promise<void> {
    const path = objectPath(RESOURCES.persistentVolumeClaims, { name, namespace }, 'status');
    await this.api.mergePatch(path, { status: { phase: 'Bound', capacity: { storage: capacity } } });
  }

  /** Applies a target as `kubectl apply` would. */
  async applyTarget(namespace: string, name: string, spec: unknown): Promise<AnyObject> {
    const { targets } = RESOURCES;
    const body = {
      apiVersion: apiVersionOf(targets),
      kind: targets.kind,
      metadata: { name, namespace },
      spec,
    };
    return (await this.api.apply(objectPath(targets, { name, namespace }), body, 'kubectl')) as AnyObject;
  }

  /** The target, read anew. */
  async target(namespace: string, name: string): Promise<AnyObject> {
    return (await this.api.get(objectPath(RESOURCES.targets, { namespace, name }))) as AnyObject;
  }

  /** Waits for a condition of a target and returns it. */
  waitForCondition(
    namespace: string,
    name: string,
    type: string,
    expected: { status?: string; reason?: string },
  ) {
    const text = `${type} ${JSON.stringify(expected)} of ${namespace}/${name}`;
    return this.waitFor(text, async () => {
      const target = await this.target(namespace, name);
      const conditions = (target['status']?.conditions ?? []) as Record<string, string>[];
      return conditions.find(
        (condition) =>
          condition['type'] === type &&
          (expected.status === undefined || condition['status'] === expected.status) &&
          (expected.reason === undefined || condition['reason'] === expected.reason),
      );
    });
  }

  /** What the DaemonSet controller and the kubelet would do: a running, ready pod of the DaemonSet's template. */
  async runPod(namespace: string, targetName: string, nodeName: string): Promise<string> {
    const daemonSet = await this.waitFor('the DaemonSet', () =>
      this.find(RESOURCES.daemonSets, `weir-target-${targetName}`, namespace),
    );
    const hash = daemonSet['spec'].template.metadata.annotations[TEMPLATE_HASH_ANNOTATION] as string;
    const name = `weir-target-${targetName}-${nodeName}`;
    await this.api.create(listPath(RESOURCES.pods, namespace), {
      metadata: {
        name,
        labels: { [TARGET_LABEL]: targetName },
        annotations: { [TEMPLATE_HASH_ANNOTATION]: hash },
      },
      spec: {
        nodeName,
        containers: [{ name: 'dataplane', image: 'weir:test' }],
        tolerations: [{ operator: 'Exists' }],
        serviceAccountName: `weir-target-${targetName}`,
        automountServiceAccountToken: false,
        terminationGracePeriodSeconds: 0,
        resourceClaims: daemonSet['spec'].template.spec.resourceClaims ?? [],
        volumes: (
          (daemonSet['spec'].template.spec.volumes ?? []) as { persistentVolumeClaim?: object }[]
        ).filter(({ persistentVolumeClaim }) => persistentVolumeClaim !== undefined),
      },
    });
    await this.changePod(namespace, name, true, { running: { startedAt: '2026-11-23T08:00:00Z' } });
    return name;
  }

  /** What the kubelet would report of a pod's one container. */
  async changePod(
    namespace: string,
    name: string,
    isReady: boolean,
    state: object,
    lastState: object = {},
  ): Promise<void> {
    const container = {
      name: 'dataplane',
      image: 'weir:test',
      imageID: '',
      ready: isReady,
      restartCount: 0,
      state,
      lastState,
    };
    await this.api.mergePatch(objectPath(RESOURCES.pods, { name, namespace }, 'status'), {
      status: {
        phase: 'Running',
        conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }],
        containerStatuses: [container],
      },
    });
  }

  /** Ends a pod at once, as a kubelet would after its container has left. */
  async endPod(namespace: string, name: string): Promise<void> {
    await this.api.delete(objectPath(RESOURCES.pods, { name, namespace }), { gracePeriodSeconds: 0 });
  }

  /** What a dataplane would report: all is well, with so many hosts; `change` replaces fields of the status. */
  async reportServing(
    namespace: string,
    targetName: string,
    nodeName: string,
    connectedHosts = 0,
    startTime = '2026-11-23T08:00:01Z',
    change: object = {},
  ): Promise<void> {
    const { targetNodes } = RESOURCES;
    const name = targetNodeName(targetName, nodeName);
    const object = await this.waitFor(`NvmeofTargetNode ${name}`, () =>
      this.find(targetNodes, name, namespace),
    );
    const condition = (type: string, status: string) => ({
      type,
      status,
      reason: 'Test',
      message: `${type} is ${status}`,
      lastTransitionTime: '2026-11-23T08:00:00Z',
    });
    const conditions = ['ListenersReady', 'LinksUp', 'DeviceHealthy', 'Ready'].map((type) =>
      condition(type, 'True'),
    );
    const hosts = Array.from({ length: connectedHosts }, (_, index) => ({
      subsystem: 'nqn.2026-11.dev.weir:fast',
      hostNQN: `nqn.2026-11.dev.weir:host-${index}`,
      controllerID: index + 1,
      queues: 2,
    }));
    const status = {
      observedGeneration: object.metadata.generation,
      startTime,
      connectedHosts,
      listeners: [{ name: 'storage', address: '10.9.0.1', port: 4420, phase: 'Serving', reason: 'Test' }],
      hosts,
      conditions: [...conditions, condition('Degraded', 'False')],
      ...change,
    };
    const body = {
      apiVersion: apiVersionOf(targetNodes),
      kind: targetNodes.kind,
      metadata: { name, namespace },
      status,
    };
    await this.api.apply(
      objectPath(targetNodes, { name, namespace }, 'status'),
      body,
      DATAPLANE_FIELD_MANAGER,
    );
  }
}
