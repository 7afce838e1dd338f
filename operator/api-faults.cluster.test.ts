/** An operator whose API server is slow, throttles, refuses, forgets, breaks off or holds objects that nobody can read. */
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { listPath, objectPath, RESOURCES, type Resource } from './kubernetes/resource.ts';
import { type RunningOperator, startOperator } from './operator.ts';
import { WATCHED_RESOURCES } from './target/controller.ts';
import { type Fault, FaultyApi } from './testing/faulty-api.ts';
import { SAMPLE_SETTINGS, sampleSpecInput } from './testing/samples.ts';
import { type AnyObject, TestCluster } from './testing/test-cluster.ts';

const logger = pino({ level: process.env['WEIR_TEST_LOG'] ?? 'silent' });
const NAMESPACE = 'storage';
const LEASES = RESOURCES.leases.plural;

let cluster: TestCluster;
let api: FaultyApi;
let stop: AbortController;
let operator: RunningOperator;
let sequence = 0;
let name: string;

async function start(): Promise<void> {
  const options = {
    namespace: 'default',
    metricsAddress: '127.0.0.1:0',
    leaderElect: true,
    logLevel: 'info',
    dataplane: SAMPLE_SETTINGS,
  } as const;
  operator = await startOperator(api.config, options, logger, stop.signal);
}

/** What Kubernetes does for an operator that could not renew its lease while the API server was away. */
async function restartIfEnded(): Promise<void> {
  const running = new Promise((resolve) => setImmediate(resolve, 'running'));
  if ((await Promise.race([operator.ended, running])) === 'leadership lost') await start();
}

beforeAll(async () => {
  cluster = await TestCluster.start();
  await cluster.createNamespace(NAMESPACE);
  await cluster.createNode('node-a');
});
afterAll(async () => {
  await cluster?.stop();
});
beforeEach(async () => {
  sequence += 1;
  name = `target-${sequence}`;
  api = await FaultyApi.before(cluster.config);
  stop = new AbortController();
  await start();
});
afterEach(async () => {
  api.faultOf = () => undefined;
  stop.abort();
  await operator.ended;
  await api.stop();
});

const own = (target = name, change: object = {}) => ({
  ...sampleSpecInput(),
  nqn: `nqn.2026-11.dev.weir:${target}`,
  listeners: [
    { name: 'storage', addressFrom: { cidr: '10.9.0.0/24' }, port: 4420 + Number(target.match(/\d+/)?.[0]) },
  ],
  namespaces: [{ nsid: 1, backend: { memory: { size: '8Mi' } } }],
  ...change,
});
const apply = (change: object = {}, target = name) =>
  cluster.applyTarget(NAMESPACE, target, own(target, change));
const condition = (type: string, expected: { status?: string; reason?: string }, target = name) =>
  cluster.waitForCondition(NAMESPACE, target, type, expected);
const events = (): Promise<AnyObject[]> => cluster.list(RESOURCES.events, NAMESPACE);
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const policyOnNode = async (target = name) =>
  (await cluster.find(RESOURCES.targetNodes, `${target}-node-a`, NAMESPACE))?.['spec'].subsystems[0].access
    .policy;
const policyBecomes = (policy: string, target = name) =>
  cluster.waitFor(
    `${target} on node-a to have ${policy}`,
    async () => (await policyOnNode(target)) === policy,
  );

/** A target that is served and an operator that has come to rest. */
async function settle(): Promise<void> {
  await apply();
  await cluster.runPod(NAMESPACE, name, 'node-a');
  await cluster.reportServing(NAMESPACE, name, 'node-a');
  await condition('Ready', { status: 'True' });
  await pause(1500);
}

/** Sum of the samples of a metric whose labels contain the text. */
async function metric(metricName: string, labels = ''): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${operator.port}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith(`${metricName}{`) && line.includes(labels));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

const refuse = (status: number, reason: string, retryAfterSeconds?: number): Fault => ({
  kind: 'refuse',
  status,
  reason,
  ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
});

describe('an operator at rest', () => {
  it('asks for nothing: only its watches stand and its lease is renewed', async () => {
    await settle();
    api.requests = [];
    await pause(7000);
    const others = api.requests.filter(({ path }) => !path.includes(`/${LEASES}`));
    expect(others).toEqual([]);
    // One renewal each 2 s.
    expect(api.requests.length).toBeLessThanOrEqual(4);
    expect(api.requests.every(({ method }) => method === 'PUT')).toBe(true);
  });
});

describe('a watch', () => {
  it('that is told that its version has expired lists again, once, and misses nothing', async () => {
    await settle();
    const told = new Set<string>();
    api.requests = [];
    api.faultOf = ({ isWatch, path }) => {
      if (!isWatch || told.has(path)) return undefined;
      told.add(path);
      return refuse(410, 'Expired');
    };
    api.resetWatches();
    await apply({ access: { policy: 'AnyHost' } });
    await policyBecomes('AnyHost');
    // The claim templates that a former deviceAccess may have left are watched too.
    const watched = WATCHED_RESOURCES.length + 1;
    await cluster.waitFor('every watch to be told', async () => told.size === watched);
    expect(await metric('weir_operator_watch_restarts_total', 'reason="expired"')).toBe(watched);
    const lists = api.shortRequests.filter(({ method, path }) => method === 'GET' && !path.includes(LEASES));
    expect(lists.length).toBeLessThanOrEqual(watched);
  });

  it('that is reset in the middle, again and again, goes on without lists, and counts it', async () => {
    await settle();
    api.requests = [];
    for (let count = 0; count < 5; count += 1) {
      api.resetWatches();
      await pause(300);
    }
    await apply({ access: { policy: 'AnyHost' } });
    await policyBecomes('AnyHost');
    expect(await metric('weir_operator_watch_restarts_total', 'reason="error"')).toBeGreaterThanOrEqual(
      WATCHED_RESOURCES.length,
    );
    const lists = api.shortRequests.filter(({ method, path }) => method === 'GET' && !path.includes(LEASES));
    expect(lists).toEqual([]);
  });
});

describe('an API server', () => {
  it.each<[string, Fault, number]>([
    // Whoever is told to come back in a second asks each thing at most about once a second.
    ['throttles every request (429)', refuse(429, 'TooManyRequests', 1), 20],
    ['fails at every request (500)', refuse(500, 'InternalError'), 40],
  ])(
    'that %s is not asked in a hot loop, and what was wanted comes when it recovers',
    async (_, fault, most) => {
      await settle();
      api.requests = [];
      api.faultOf = ({ path }) => (path.includes(LEASES) ? undefined : fault);
      api.resetWatches();
      await apply({ access: { policy: 'AnyHost' } });
      await pause(2000);
      const asked = api.requests.filter(({ path }) => !path.includes(LEASES)).length;
      expect(asked).toBeGreaterThan(0);
      expect(asked).toBeLessThanOrEqual(most);
      api.faultOf = () => undefined;
      await policyBecomes('AnyHost');
    },
  );

  it('that throttles writes is asked again no sooner than it said', async () => {
    await settle();
    api.requests = [];
    api.faultOf = ({ method, path }) =>
      method === 'PATCH' && path.includes(name) ? refuse(429, 'TooManyRequests', 2) : undefined;
    await apply({ access: { policy: 'AnyHost' } });
    await pause(3800);
    const tries = api.requests.filter(({ method, path }) => method === 'PATCH' && path.includes(name));
    expect(tries.length).toBeLessThanOrEqual(2);
    api.faultOf = () => undefined;
    await policyBecomes('AnyHost');
  });

  it('that takes 5 s for each answer is waited for, by the leader as well', async () => {
    await settle();
    api.requests = [];
    api.faultOf = ({ isWatch }) => (isWatch ? undefined : { kind: 'delay', milliseconds: 5000 });
    await apply({ access: { policy: 'AnyHost' } });
    await policyBecomes('AnyHost');
    expect(await metric('leader_election_master_status')).toBe(1);
    // The edit's own writes (object, status, Event) and renewals: nothing was given up and sent again.
    expect(api.shortRequests.length).toBeLessThanOrEqual(8);
  });

  it('that ends with its etcd and comes back finds the operator at work', async () => {
    await settle();
    await cluster.stopControlPlane();
    api.requests = [];
    await pause(2000);
    expect(api.requests.length).toBeLessThan(60);
    await cluster.startApiServer();
    await cluster.waitFor('an edit to be taken', () => apply({ access: { policy: 'AnyHost' } }));
    await restartIfEnded();
    await policyBecomes('AnyHost');
  });
});

describe('somebody who writes without pause', () => {
  it('to a target holds its first steps up no longer than they last, and causes no storm', async () => {
    api.requests = [];
    const { targets } = RESOURCES;
    await apply();
    const until = Date.now() + 2500;
    let writes = 0;
    for (; Date.now() < until; writes += 1) {
      const patch = { metadata: { annotations: { writes: String(writes) } } };
      await cluster.api.mergePatch(objectPath(targets, { namespace: NAMESPACE, name }), patch);
    }
    await condition('Accepted', { status: 'True' });
    const own = api.requests.filter(({ method }) => method === 'PATCH');
    // Not more than the other writes, each of which is a reason to look, beside the children.
    expect(own.length).toBeLessThan(writes + 30);
    expect(await metric('controller_runtime_reconcile_errors_total')).toBe(0);
  });
});

describe('one target', () => {
  it('whose work fails each time says so in an Event and a metric, and holds up no other', async () => {
    const other = `other-${sequence + 1000}`;
    api.faultOf = ({ method, path }) =>
      method === 'PATCH' && path.endsWith(`/daemonsets/weir-target-${name}`)
        ? refuse(403, 'Forbidden')
        : undefined;
    await apply();
    await apply({}, other);
    await condition('Accepted', { status: 'True' }, other);
    await cluster.waitFor('an Event', async () =>
      (await events()).find(
        ({ reason, regarding }) => reason === 'ReconcileFailed' && regarding.name === name,
      ),
    );
    expect(await metric('controller_runtime_reconcile_errors_total')).toBeGreaterThan(0);
    api.faultOf = () => undefined;
    await condition('Accepted', { status: 'True' });
  });

  it('that no schema fits, in whatever part, is told so, and holds up no other', async () => {
    const crd: Resource = {
      group: 'apiextensions.k8s.io',
      version: 'v1',
      kind: 'CustomResourceDefinition',
      plural: 'customresourcedefinitions',
      namespaced: false,
    };
    const crds = await Promise.all(
      ['nvmeoftargets', 'nvmeoftargetnodes'].map(async (plural) => {
        const path = objectPath(crd, { name: `${plural}.weir.dev` });
        return { path, stored: (await cluster.api.get(path)) as AnyObject };
      }),
    );
    for (const { path, stored } of crds) {
      const versions = (stored['spec'].versions as object[]).map((version) => ({
        ...version,
        schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
      }));
      await cluster.api.mergePatch(path, { spec: { versions } });
    }
    try {
      const create = (resource: Resource, object: Record<string, unknown>) =>
        cluster.waitFor('an odd object to be taken', async () => {
          const created = (await cluster.api.create(listPath(resource, NAMESPACE), {
            apiVersion: 'weir.dev/v1alpha1',
            kind: resource.kind,
            ...object,
          })) as AnyObject;
          return created['spec'] === object['spec'] || created['spec'] !== undefined;
        });
      // Sorted before the others, and older.
      await create(RESOURCES.targets, { metadata: { name: 'a-word' }, spec: 'served elsewhere' });
      await create(RESOURCES.targets, { metadata: { name: 'a-shape' }, spec: { listeners: { first: 1 } } });
      const odd = { metadata: { name: 'a-past' }, spec: own('past-999'), status: 'fine' };
      await create(RESOURCES.targets, odd);
      const statusOf = (target: string) =>
        objectPath(RESOURCES.targets, { namespace: NAMESPACE, name: target }, 'status');
      await cluster.api.mergePatch(statusOf('a-past'), {
        status: { conditions: 'all well', observedGeneration: 'x' },
      });
      await create(RESOURCES.targetNodes, {
        metadata: { name: 'a-node', labels: { 'weir.dev/target': name } },
        spec: { nodeName: 7 },
      });
      await apply();
      await condition('Accepted', { status: 'True' });
      await policyBecomes('AllowList');
      await condition('Accepted', { status: 'False', reason: 'InvalidSpec' }, 'a-word');
      await condition('Accepted', { status: 'False', reason: 'InvalidSpec' }, 'a-shape');
      await condition('Accepted', { status: 'True' }, 'a-past');
      // Each kind has a watch of its own: what befalls targets says nothing of when a node's object is seen.
      await cluster.waitFor(
        'the odd node object to be counted',
        async () => (await metric('weir_operator_unreadable_objects', 'nvmeoftargetnodes')) === 1,
      );
    } finally {
      for (const { path, stored } of crds) await cluster.api.mergePatch(path, { spec: stored['spec'] });
    }
  });
});
