/** Deletions in every order, with Kubernetes' own garbage collector and namespace controller at work. */
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DRAIN_FINALIZER } from '../crds/api-group.ts';
import { startControllers, stopControllers } from '../lab/control-plane/controllers.ts';
import { silentProgress } from '../lab/progress.ts';
import { objectPath, RESOURCES, type Resource } from './kubernetes/resource.ts';
import { type RunningOperator, startOperator } from './operator.ts';
import { SAMPLE_SETTINGS, sampleSpecInput } from './testing/samples.ts';
import { TestCluster } from './testing/test-cluster.ts';

const logger = pino({ level: process.env['WEIR_TEST_LOG'] ?? 'silent' });

/** Every kind of object that a target brings about. */
const CHILDREN: readonly Resource[] = [
  RESOURCES.targetNodes,
  RESOURCES.daemonSets,
  RESOURCES.serviceAccounts,
  RESOURCES.roles,
  RESOURCES.roleBindings,
  RESOURCES.pods,
];

const CRDS: Resource = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  kind: 'CustomResourceDefinition',
  plural: 'customresourcedefinitions',
  namespaced: false,
};

let cluster: TestCluster;
let namespace: string;
let stop: AbortController;
let operator: RunningOperator | undefined;
let sequence = 0;

async function start(): Promise<void> {
  stop = new AbortController();
  const options = {
    namespace: 'default',
    metricsAddress: '127.0.0.1:0',
    leaderElect: false,
    logLevel: 'info',
    dataplane: SAMPLE_SETTINGS,
  } as const;
  operator = await startOperator(cluster.config, options, logger, stop.signal);
}

async function stopOperator(): Promise<void> {
  stop.abort();
  await operator?.ended;
}

beforeAll(async () => {
  cluster = await TestCluster.start();
  await startControllers({
    dir: cluster.directory,
    apiServer: cluster.server,
    progress: silentProgress,
    tiedToParent: true,
    // No DaemonSet controller: it and the test would both want to make the pods.
    flags: {
      'kube-controller-manager': ['--controllers', 'garbage-collector-controller,namespace-controller'],
    },
  });
  await cluster.createNode('node-a');
});
afterAll(async () => {
  if (cluster === undefined) return;
  await stopControllers(cluster.directory);
  await cluster.stop();
});
beforeEach(async () => {
  sequence += 1;
  namespace = `storage-${sequence}`;
  await cluster.createNamespace(namespace);
  await start();
});
afterEach(stopOperator);

async function serve(): Promise<void> {
  await cluster.applyTarget(namespace, 'fast', {
    ...sampleSpecInput(),
    nqn: `nqn.2026-11.dev.weir:${namespace}`,
    namespaces: [{ nsid: 1, backend: { memory: { size: '8Mi' } } }],
  });
  const pod = await cluster.runPod(namespace, 'fast', 'node-a');
  const owner = await cluster.find(RESOURCES.daemonSets, 'weir-target-fast', namespace);
  const ownerReferences = [
    { apiVersion: 'apps/v1', kind: 'DaemonSet', name: 'weir-target-fast', uid: owner?.metadata.uid },
  ];
  await cluster.api.mergePatch(objectPath(RESOURCES.pods, { namespace, name: pod }), {
    metadata: { ownerReferences },
  });
  await cluster.reportServing(namespace, 'fast', 'node-a');
  await cluster.waitForCondition(namespace, 'fast', 'Ready', { status: 'True' });
}

const remove = (resource: Resource, name: string) =>
  cluster.api.delete(objectPath(resource, { namespace, name }));
const targetGoes = () =>
  cluster.waitFor(
    'the target to go',
    async () => (await cluster.find(RESOURCES.targets, 'fast', namespace)) === undefined,
  );

/** What is left of the target's children, as `<kind> <name>`. */
async function left(): Promise<string[]> {
  const found = await Promise.all(
    CHILDREN.map(async (resource) => {
      const objects = await cluster.list(resource, namespace);
      return objects
        .filter(({ metadata }) => metadata.name.includes('fast'))
        .map(({ metadata }) => `${resource.kind} ${metadata.name}`);
    }),
  );
  return found.flat();
}
const nothingIsLeft = () => cluster.waitFor('nothing to be left', async () => (await left()).length === 0);

describe('nothing is left', () => {
  it('of a target that is deleted while the operator is down', async () => {
    await serve();
    await stopOperator();
    await remove(RESOURCES.targets, 'fast');
    expect((await cluster.target(namespace, 'fast')).metadata.deletionTimestamp).toBeDefined();
    await start();
    await targetGoes();
    await nothingIsLeft();
  });

  it('of a target whose children were deleted by hand before, in an odd order', async () => {
    await serve();
    await stopOperator();
    await remove(RESOURCES.roles, 'weir-target-fast');
    await remove(RESOURCES.targetNodes, 'fast-node-a');
    await remove(RESOURCES.targets, 'fast');
    await remove(RESOURCES.daemonSets, 'weir-target-fast');
    await start();
    await targetGoes();
    await nothingIsLeft();
  });

  it('of a target that was let go by force while the operator was down', async () => {
    await serve();
    await stopOperator();
    await remove(RESOURCES.targets, 'fast');
    const path = objectPath(RESOURCES.targets, { namespace, name: 'fast' });
    expect((await cluster.target(namespace, 'fast')).metadata.finalizers).toEqual([DRAIN_FINALIZER]);
    await cluster.api.mergePatch(path, { metadata: { finalizers: null } });
    await targetGoes();
    await nothingIsLeft();
  });

  it('of a namespace, which goes with all that is in it', async () => {
    await serve();
    await cluster.api.delete(objectPath(RESOURCES.namespaces, { name: namespace }));
    await cluster.waitFor(
      'the namespace to go',
      async () => (await cluster.find(RESOURCES.namespaces, namespace)) === undefined,
    );
  });
});

// The last: it takes the kinds themselves away.
describe('the kinds themselves', () => {
  it('go when they are uninstalled under a running operator, with every target and child', async () => {
    await serve();
    for (const plural of ['nvmeoftargetnodes', 'nvmeoftargets'])
      await cluster.api.delete(objectPath(CRDS, { name: `${plural}.weir.dev` }));
    await cluster.waitFor('the kinds to go', async () => {
      const found = await Promise.all(
        ['nvmeoftargetnodes', 'nvmeoftargets'].map((plural) => cluster.find(CRDS, `${plural}.weir.dev`)),
      );
      return found.every((crd) => crd === undefined);
    });
    const others = CHILDREN.filter(({ kind }) => kind !== RESOURCES.targetNodes.kind);
    await cluster.waitFor('nothing to be left', async () => {
      const lists = await Promise.all(others.map((resource) => cluster.list(resource, namespace)));
      return lists.flat().every(({ metadata }) => !metadata.name.includes('fast'));
    });
  });
});
