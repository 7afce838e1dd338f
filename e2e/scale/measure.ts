/** One run of the scale test: a cluster of simulated nodes, targets on it, and what they cost the operator. */
import { cpus, loadavg, totalmem } from 'node:os';
import { pino } from 'pino';
import { TARGET_LABEL } from '../../crds/api-group.ts';
import { startControllers, stopControllers } from '../../lab/control-plane/controllers.ts';
import { startKwok, stopKwok } from '../../lab/control-plane/kwok.ts';
import type { Progress } from '../../lab/progress.ts';
import { type KubernetesBinary, kubernetesBinaries, kubernetesVersion } from '../../lab/setup/binaries.ts';
import { installPackages } from '../../lab/setup/packages.ts';
import { sleep, waitFor } from '../../lab/system/wait.ts';
import { objectKey } from '../../operator/kubernetes/object.ts';
import { Reflector } from '../../operator/kubernetes/reflector.ts';
import { apiVersionOf, listPath, objectPath, RESOURCES } from '../../operator/kubernetes/resource.ts';
import { parseTarget, type StoredTarget } from '../../operator/target/nvmeof-target.ts';
import { OperatorProcess } from '../../operator/testing/operator-process.ts';
import { TestCluster } from '../../operator/testing/test-cluster.ts';
import { EditTimes } from './edit-times.ts';
import { isReady, laggards } from './laggards.ts';
import type { ScaleRecord } from './report.ts';
import { SimulatedDataplanes } from './simulated-dataplanes.ts';

/** Nodes that each target selects, and targets that share each node when there are as many targets as nodes. */
export const NODES_PER_TARGET = 10;

const NAMESPACE = 'scale';
const RACK_LABEL = 'example.com/rack';
const DEVICE_RESOURCE = 'rdma/shared';

/** Requests in flight while the cluster is filled. */
const PARALLEL = 16;
const EDITS_MAX = 100;
const EDIT_PAUSE_MS = 250;

/** How much to build. */
export interface ScaleSize {
  readonly nodes: number;
  readonly targets: number;
  /** Whether DaemonSet controller, scheduler, kwok and simulated dataplanes bring the targets to Ready. */
  readonly pods: boolean;
  /** Longest wait for all to be ready. */
  readonly timeoutSeconds: number;
  /** How long the operator is watched at rest. */
  readonly restSeconds: number;
}

/** How often a wait tells how far it has come. */
const NOTE_INTERVAL_MS = 15_000;

/** Runs a step that tells now and then how far it has come. */
async function notedStep<T>(
  progress: Progress,
  title: string,
  soFar: () => string,
  work: () => Promise<T>,
): Promise<T> {
  const notes = setInterval(() => progress.note(`  ${title}: ${soFar()}`), NOTE_INTERVAL_MS);
  try {
    return await progress.step(title, work);
  } finally {
    clearInterval(notes);
  }
}

async function inParallel(count: number, work: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const index = next;
      next += 1;
      await work(index);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}

function targetSpec(index: number, racks: number, policy: 'AnyHost' | 'AllowList'): object {
  return {
    nqn: `nqn.2026-11.dev.weir:scale-${index}`,
    scope: 'PerNode',
    nodeSelector: { [RACK_LABEL]: `r${index % racks}` },
    // Targets that share nodes need ports of their own.
    listeners: [
      { name: 'storage', addressFrom: { cidr: '10.9.0.0/16' }, port: 4420 + Math.floor(index / racks) },
    ],
    namespaces: [{ nsid: 1, backend: { memory: { size: '16Mi' } } }],
    access: { policy },
  };
}

/** The operator's own account of what it did. */
interface Account {
  readonly requests: ReadonlyMap<string, number>;
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  readonly atMs: number;
}

async function accountOf(operator: OperatorProcess): Promise<Account> {
  const text = await operator.fetch('/metrics');
  // Without its word it would seem to be at rest.
  if (text === undefined) throw new Error('the operator does not tell its metrics');
  const lines = text.split('\n').filter((line) => !line.startsWith('#'));
  const value = (name: string): number =>
    Number(
      lines
        .find((line) => line.startsWith(`${name} `))
        ?.split(' ')
        .at(-1) ?? Number.NaN,
    );
  const requests = new Map<string, number>();
  for (const line of lines) {
    const method = /^rest_client_requests_total\{.*method="([A-Z]+)"/.exec(line)?.[1];
    if (method === undefined) continue;
    requests.set(method, (requests.get(method) ?? 0) + Number(line.split(' ').at(-1)));
  }
  return {
    requests,
    cpuSeconds: value('process_cpu_seconds_total'),
    residentBytes: value('process_resident_memory_bytes'),
    atMs: performance.now(),
  };
}

/** Requests between two accounts, without PUT (only the lease is replaced) and, as `GET`, watches that were renewed. */
function requestsBetween(before: Account, after: Account): Record<string, number> {
  const methods = [...after.requests.keys()].filter((method) => method !== 'PUT');
  return Object.fromEntries(
    methods.map((method) => [method, (after.requests.get(method) ?? 0) - (before.requests.get(method) ?? 0)]),
  );
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const rounded = (value: number, digits = 2): number => Number(value.toFixed(digits));

function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN;
}

/** Waits until the operator has asked for nothing for some seconds; tells since when. */
async function settled(
  operator: OperatorProcess,
  timeoutSeconds: number,
): Promise<Account & { readonly quietSinceMs: number }> {
  let last = await accountOf(operator);
  return await waitFor(
    async () => {
      await sleep(2000);
      const now = await accountOf(operator);
      const before = last;
      last = now;
      const isQuiet = sum(Object.values(requestsBetween(before, now))) === 0;
      return isQuiet ? { ...now, quietSinceMs: before.atMs } : undefined;
    },
    { what: 'the operator to come to rest', timeoutSeconds },
  );
}

/** A run in progress. */
class Run {
  readonly #size: ScaleSize;
  readonly #progress: Progress;
  readonly #cluster: TestCluster;
  readonly #stop = new AbortController();
  readonly #dataplanes: SimulatedDataplanes;
  readonly #targets: Reflector<StoredTarget>;
  readonly #background: Promise<unknown>[] = [];
  #operator: OperatorProcess | undefined;

  constructor(cluster: TestCluster, size: ScaleSize, progress: Progress) {
    this.#cluster = cluster;
    this.#size = size;
    this.#progress = progress;
    const logger = pino({ level: 'error' });
    this.#dataplanes = new SimulatedDataplanes(cluster.api, logger);
    this.#targets = new Reflector({
      api: cluster.api,
      logger,
      resource: RESOURCES.targets,
      parse: parseTarget,
      onChange: () => undefined,
    });
  }

  get #racks(): number {
    return Math.max(1, Math.floor(this.#size.nodes / NODES_PER_TARGET));
  }

  /** Objects of nodes that there will be. */
  get #objects(): number {
    return this.#size.targets * Math.min(NODES_PER_TARGET, this.#size.nodes);
  }

  get #edits(): number {
    return Math.min(EDITS_MAX, this.#size.targets);
  }

  #soFar(): string {
    const objects = `${this.#dataplanes.size} of ${this.#objects} node objects`;
    if (!this.#size.pods) return objects;
    const ready = [...this.#targets.values()].filter(isReady).length;
    const late = ready === 0 ? '' : laggards(this.#targets.values());
    return `${objects}, ${ready} of ${this.#size.targets} targets ready${late === '' ? '' : ` (${late})`}`;
  }

  async measure(): Promise<ScaleRecord> {
    const { nodes, targets } = this.#size;
    const loadBefore = loadavg()[0] ?? 0;
    await this.#progress.step(`make ${nodes} nodes ready`, () => this.#makeNodes());
    const operator = await this.#progress.step('start the operator', () => this.#startOperator());
    this.#background.push(this.#dataplanes.run(this.#stop.signal), this.#targets.run(this.#stop.signal));
    const before = await settled(operator, 60);
    const begunMs = performance.now();
    const filled = await notedStep(
      this.#progress,
      `apply ${targets} targets`,
      () => this.#soFar(),
      () => this.#fill(),
    );
    const ready = await this.#progress.step('wait until the operator is at rest', () =>
      settled(operator, this.#size.timeoutSeconds),
    );
    const times = { ...filled, settledSeconds: (ready.quietSinceMs - begunMs) / 1000 };
    const edits = await this.#progress.step(`edit ${this.#edits} targets, one after the other`, () =>
      this.#edit(operator),
    );
    const restBegins = await settled(operator, 120);
    const restEnds = await this.#progress.step('watch the operator at rest', async () => {
      await sleep(this.#size.restSeconds * 1000);
      return await accountOf(operator);
    });

    const objects = this.#dataplanes.size;
    const requests = requestsBetween(before, ready);
    const total = sum(Object.values(requests));
    const cpuSeconds = ready.cpuSeconds - before.cpuSeconds;
    const restSeconds = (restEnds.atMs - restBegins.atMs) / 1000;
    return {
      date: new Date().toISOString(),
      machine: {
        cpu: cpus()[0]?.model ?? 'unknown',
        cores: cpus().length,
        memoryGiB: rounded(totalmem() / 2 ** 30, 1),
        loadBefore: rounded(loadBefore),
      },
      kubernetes: kubernetesVersion(),
      nodes,
      targets,
      pods: this.#size.pods,
      objects,
      objectsSeconds: rounded(times.objectsSeconds, 1),
      ...(times.readySeconds === undefined ? {} : { readySeconds: rounded(times.readySeconds, 1) }),
      settledSeconds: rounded(times.settledSeconds, 1),
      requests,
      requestsPerTarget: rounded(total / targets),
      requestsPerObject: rounded(total / objects),
      cpuSeconds: rounded(cpuSeconds),
      cpuMsPerObject: rounded((cpuSeconds * 1000) / objects),
      residentMiB: rounded(Math.max(ready.residentBytes, restEnds.residentBytes) / 2 ** 20, 1),
      edits,
      rest: {
        seconds: rounded(restSeconds, 1),
        requests: sum(Object.values(requestsBetween(restBegins, restEnds))),
        cpuPercent: rounded(((restEnds.cpuSeconds - restBegins.cpuSeconds) / restSeconds) * 100),
      },
    };
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#operator?.kill('SIGKILL');
    await this.#operator?.ended;
    await Promise.all(this.#background);
  }

  async #makeNodes(): Promise<void> {
    const { api } = this.#cluster;
    await this.#cluster.createNamespace(NAMESPACE);
    await inParallel(this.#size.nodes, (index) =>
      api.create(listPath(RESOURCES.nodes), {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: {
          name: `node-${index}`,
          labels: { [RACK_LABEL]: `r${Math.floor(index / NODES_PER_TARGET)}` },
        },
        status: {
          allocatable: { cpu: '64', memory: '256Gi', pods: '110', [DEVICE_RESOURCE]: '100' },
          capacity: { cpu: '64', memory: '256Gi', pods: '110', [DEVICE_RESOURCE]: '100' },
        },
      }),
    );
    if (!this.#size.pods) return;
    await waitFor(
      async () => {
        const { items } = (await api.get(listPath(RESOURCES.nodes))) as {
          items: {
            spec: { taints?: unknown[] };
            status: { conditions?: { type: string; status: string }[] };
          }[];
        };
        return items.every(
          ({ spec, status }) =>
            (spec.taints ?? []).length === 0 &&
            status.conditions?.some(({ type, status: state }) => type === 'Ready' && state === 'True') ===
              true,
        );
      },
      { what: 'the nodes to be ready', timeoutSeconds: 300, intervalMilliseconds: 1000 },
    );
  }

  async #startOperator(): Promise<OperatorProcess> {
    const kubeconfig = await this.#cluster.kubeconfigOf('operator');
    const operator = new OperatorProcess({ kubeconfig, args: ['--leader-elect'] });
    this.#operator = operator;
    await waitFor(async () => operator.hasLed && (await operator.fetch('/readyz')) !== undefined, {
      what: 'the operator to lead',
      timeoutSeconds: 60,
    });
    return operator;
  }

  /** Applies every target and waits for all of them. */
  async #fill(): Promise<{ objectsSeconds: number; readySeconds?: number }> {
    const { targets } = RESOURCES;
    const { timeoutSeconds } = this.#size;
    const begunMs = performance.now();
    const since = (): number => (performance.now() - begunMs) / 1000;
    await inParallel(this.#size.targets, (index) =>
      this.#cluster.api.create(listPath(targets, NAMESPACE), {
        apiVersion: apiVersionOf(targets),
        kind: targets.kind,
        metadata: { name: `target-${index}`, namespace: NAMESPACE },
        spec: targetSpec(index, this.#racks, 'AllowList'),
      }),
    );
    await waitFor(() => this.#dataplanes.size === this.#objects, {
      what: 'all node objects',
      timeoutSeconds,
    });
    const objectsSeconds = since();
    if (!this.#size.pods) return { objectsSeconds };
    await waitFor(
      () => {
        const all = [...this.#targets.values()];
        return all.length === this.#size.targets && all.every(isReady);
      },
      { what: 'all targets to be ready', timeoutSeconds },
    );
    return { objectsSeconds, readySeconds: since() };
  }

  /** Edits targets one after the other and waits for the objects of their nodes. */
  async #edit(operator: OperatorProcess): Promise<ScaleRecord['edits']> {
    const count = this.#edits;
    const times = new EditTimes();
    this.#dataplanes.onSpec = (object) => {
      const target = `${object.metadata.namespace}/${object.metadata.labels?.[TARGET_LABEL] ?? ''}`;
      times.arrived(target, objectKey(object), performance.now());
    };
    const before = await accountOf(operator);
    const all = [...this.#targets.values()];
    for (let at = 0; at < count; at += 1) {
      // Spread over the cluster.
      const target = all[Math.floor((at * all.length) / count)];
      if (target === undefined) break;
      const { name, namespace = '' } = target.metadata;
      times.begin(objectKey(target), performance.now());
      await this.#cluster.api.mergePatch(objectPath(RESOURCES.targets, { namespace, name }), {
        spec: { access: { policy: 'AnyHost' } },
      });
      await sleep(EDIT_PAUSE_MS);
    }
    const expected = count * Math.min(NODES_PER_TARGET, this.#size.nodes);
    const arrived = () => times.tookMs.length === expected;
    await waitFor(arrived, { what: 'the edits to arrive', timeoutSeconds: 120 });
    const after = await settled(operator, 120);
    const { tookMs } = times;
    return {
      count,
      p50Ms: Math.round(quantile(tookMs, 0.5)),
      p99Ms: Math.round(quantile(tookMs, 0.99)),
      maxMs: Math.round(Math.max(...tookMs)),
      requestsPerObject: rounded(sum(Object.values(requestsBetween(before, after))) / expected),
    };
  }
}

/** Builds a cluster of that size, measures, and leaves nothing behind. */
export async function measureScale(size: ScaleSize, progress: Progress): Promise<ScaleRecord> {
  const controllers: readonly KubernetesBinary[] = ['kube-controller-manager', 'kube-scheduler'];
  await installPackages(progress);
  await kubernetesBinaries(progress, ['kube-apiserver', ...(size.pods ? controllers : [])]);
  const cluster = await progress.step('start etcd and an API server', () => TestCluster.start());
  const dir = cluster.directory;
  // The defaults keep small clusters gentle: tens of requests a second would be what is measured.
  const rate = ['--kube-api-qps', '1000', '--kube-api-burst', '2000'];
  try {
    if (size.pods) {
      await startControllers({
        dir,
        apiServer: cluster.server,
        progress,
        tiedToParent: true,
        flags: {
          'kube-controller-manager': [
            ...rate,
            ...['--node-monitor-grace-period', '300s', '--concurrent-daemonset-syncs', '8'],
          ],
          'kube-scheduler': rate,
        },
      });
      await startKwok({ dir, kubeconfig: await cluster.kubeconfigOf('kwok'), progress });
    }
    const run = new Run(cluster, size, progress);
    try {
      return await run.measure();
    } finally {
      await run.stop();
    }
  } finally {
    await stopKwok(dir);
    await stopControllers(dir);
    await cluster.stop();
  }
}
