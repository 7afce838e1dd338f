import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DRAIN_FINALIZER } from '../crds/api-group.ts';
import { SPEC_REVISION } from '../crds/nvmeof-target-node.ts';
import { objectPath, RESOURCES } from './kubernetes/resource.ts';
import { type RunningOperator, startOperator } from './operator.ts';
import { SAMPLE_SETTINGS, sampleSpecInput } from './testing/samples.ts';
import { type AnyObject, TestCluster } from './testing/test-cluster.ts';

const logger = pino({ level: process.env['WEIR_TEST_LOG'] ?? 'silent' });

let cluster: TestCluster;
let namespace: string;
let stop: AbortController;
let operator: RunningOperator;
let sequence = 0;

function start(leaderElect = false, dataplane = SAMPLE_SETTINGS): Promise<RunningOperator> {
  const options = {
    namespace: 'default',
    metricsAddress: '127.0.0.1:0',
    leaderElect,
    logLevel: 'info',
    dataplane,
  } as const;
  return startOperator(cluster.config, options, logger, stop.signal);
}

beforeAll(async () => {
  cluster = await TestCluster.start();
  await cluster.createNode('node-a', { pool: 'rdma' });
  await cluster.createNode('node-b', { pool: 'rdma' });
  await cluster.createNode('node-c');
});
afterAll(async () => {
  await cluster?.stop();
});
beforeEach(async () => {
  sequence += 1;
  namespace = `storage-${sequence}`;
  await cluster.createNamespace(namespace);
  stop = new AbortController();
  operator = await start();
});
afterEach(async () => {
  stop.abort();
  await operator.ended;
});

const onNodeA = {
  affinity: {
    nodeAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['node-a'] }] }],
      },
    },
  },
};
/** Unlike those of the other tests: NQNs, ports and files are judged over the whole cluster. */
const own = (change: object = {}) => ({
  ...sampleSpecInput(),
  nqn: `nqn.2026-11.dev.weir:${namespace}`,
  listeners: [{ name: 'storage', addressFrom: { cidr: '10.9.0.0/24' }, port: 4420 + sequence }],
  namespaces: [
    { nsid: 1, backend: { file: { path: `/var/lib/weir/${namespace}.img`, size: '1Gi' } } },
    { nsid: 2, backend: { memory: { size: '256Mi' } } },
  ],
  ...onNodeA,
  ...change,
});
const apply = (change: object = {}, name = 'fast') => cluster.applyTarget(namespace, name, own(change));
const nodeObjects = () => cluster.list(RESOURCES.targetNodes, namespace);
const condition = (type: string, expected: { status?: string; reason?: string }, name = 'fast') =>
  cluster.waitForCondition(namespace, name, type, expected);
const remove = (name = 'fast') => cluster.api.delete(objectPath(RESOURCES.targets, { namespace, name }));
const serve = async (name = 'fast', node = 'node-a', hosts = 0): Promise<string> => {
  const pod = await cluster.runPod(namespace, name, node);
  await cluster.reportServing(namespace, name, node, hosts);
  return pod;
};
const events = async (): Promise<AnyObject[]> => cluster.list(RESOURCES.events, namespace);
const gone = (name = 'fast') =>
  cluster.waitFor(
    'the target to go',
    async () => (await cluster.find(RESOURCES.targets, name, namespace)) === undefined,
  );

describe('a target that is applied', () => {
  it('gets pods, an identity for them, and an object for each selected node', async () => {
    await apply();
    await condition('Accepted', { status: 'True' });
    const daemonSet = await cluster.waitFor('the DaemonSet', () =>
      cluster.find(RESOURCES.daemonSets, 'weir-target-fast', namespace),
    );
    expect(daemonSet['spec'].updateStrategy.type).toBe('OnDelete');
    expect(daemonSet['spec'].template.spec.containers[0].securityContext.capabilities.add).toEqual([
      'IPC_LOCK',
    ]);
    for (const resource of [RESOURCES.serviceAccounts, RESOURCES.roles, RESOURCES.roleBindings]) {
      expect(await cluster.find(resource, 'weir-target-fast', namespace)).toBeDefined();
    }
    const budget = await cluster.waitFor('the disruption budget', () =>
      cluster.find(RESOURCES.podDisruptionBudgets, 'weir-target-fast', namespace),
    );
    expect(budget['spec'].minAvailable).toBe(0);
    const [object, ...others] = await nodeObjects();
    expect(others).toHaveLength(0);
    expect(object?.metadata.name).toBe('fast-node-a');
    expect(object?.['spec'].subsystems[0].namespaces[0].backend.file.sizeBytes).toBe(1073741824);
    const target = await cluster.target(namespace, 'fast');
    expect(target.metadata.finalizers).toEqual([DRAIN_FINALIZER]);
    expect(target['status'].nqn).toBe(`nqn.2026-11.dev.weir:${namespace}`);
  });

  it('becomes ready when its dataplane serves, and counts its hosts', async () => {
    await apply();
    expect(await condition('Ready', { status: 'False' })).toMatchObject({ reason: 'NoPod' });
    await serve('fast', 'node-a', 2);
    await condition('Ready', { status: 'True' });
    await condition('Progressing', { status: 'False', reason: 'Complete' });
    const { status } = await cluster.target(namespace, 'fast');
    expect(status).toMatchObject({ observedGeneration: 1, nodes: '1/1', connectedHosts: 2 });
    const reasons = (await events()).map((event) => event['reason'] as string);
    expect(reasons.filter((reason) => reason === 'Ready')).toHaveLength(1);
  });

  it('settles: nothing is written once all is as it should be', async () => {
    await apply();
    await serve();
    await condition('Ready', { status: 'True' });
    const versions = async () => [
      (await cluster.target(namespace, 'fast')).metadata.resourceVersion,
      ...(await nodeObjects()).map(({ metadata }) => metadata.resourceVersion),
      (await cluster.find(RESOURCES.daemonSets, 'weir-target-fast', namespace))?.metadata.resourceVersion,
    ];
    await new Promise((resolve) => setTimeout(resolve, 500));
    const before = await versions();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(await versions()).toEqual(before);
  });
});

describe('a dataplane that has ended', () => {
  const nodeStatus = async () => (await nodeObjects())[0]?.['status'];
  const nodeCondition = async (type: string): Promise<Record<string, unknown> | undefined> =>
    ((await nodeStatus())?.conditions as Record<string, unknown>[] | undefined)?.find(
      (one) => one['type'] === type,
    );
  const nodeReady = (expected: Record<string, string>) =>
    cluster.waitFor(`Ready of the node ${JSON.stringify(expected)}`, async () => {
      const ready = await nodeCondition('Ready');
      const fits = Object.entries(expected).every(([field, value]) => ready?.[field] === value);
      return fits ? ready : undefined;
    });

  it('stands for nothing that it reported, until the next one reports', async () => {
    await apply();
    // Unknown first, before anything runs.
    await nodeReady({ status: 'Unknown', reason: 'NoPod' });
    const pod = await serve('fast', 'node-a', 2);
    await condition('Ready', { status: 'True' });

    await cluster.changePod(namespace, pod, false, { terminated: { exitCode: 70 } });
    const ready = await nodeReady({ status: 'Unknown', reason: 'DataplaneNotRunning' });
    expect(ready['message']).toContain('exit code 70');
    expect(await nodeStatus()).toMatchObject({
      connectedHosts: 0,
      listeners: [{ name: 'storage', address: '10.9.0.1', phase: 'Unknown', reason: 'DataplaneNotRunning' }],
    });
    expect((await nodeStatus()).hosts ?? []).toEqual([]);
    await condition('Ready', { status: 'False', reason: 'DataplaneNotRunning' });
    await condition('LinksUp', { status: 'Unknown', reason: 'DataplaneNotRunning' });
    expect((await cluster.target(namespace, 'fast'))['status']).toMatchObject({
      connectedHosts: 0,
      nodes: '0/1',
    });

    const running = { running: { startedAt: '2026-11-23T08:05:00Z' } };
    await cluster.changePod(namespace, pod, false, running, { terminated: { exitCode: 70 } });
    await nodeReady({ status: 'Unknown', reason: 'DataplaneStarting' });
    await cluster.reportServing(namespace, 'fast', 'node-a', 1, '2026-11-23T08:05:02Z');
    await cluster.changePod(namespace, pod, true, running);
    await nodeReady({ status: 'True' });
    await condition('Ready', { status: 'True' });
    // One owner: nothing of what the operator said in between is left.
    expect(await nodeStatus()).toMatchObject({
      connectedHosts: 1,
      listeners: [{ phase: 'Serving', reason: 'Test' }],
    });
    expect(await nodeCondition('NamespacesReady')).toBeUndefined();
  });

  it('is noticed when its end was too short to be seen: the process that runs is not the one that reported', async () => {
    await apply();
    const pod = await serve();
    await condition('Ready', { status: 'True' });
    const running = { running: { startedAt: '2026-11-23T08:05:00Z' } };
    await cluster.changePod(namespace, pod, false, running, { terminated: { exitCode: 75 } });
    await nodeReady({ status: 'Unknown', reason: 'DataplaneStarting' });
    await condition('Ready', { status: 'False', reason: 'DataplaneStarting' });
  });

  it('is told from one that is not ready and says why itself', async () => {
    await apply();
    const pod = await serve('fast', 'node-a', 1);
    await condition('Ready', { status: 'True' });
    await cluster.changePod(namespace, pod, false, { running: { startedAt: '2026-11-23T08:00:00Z' } });
    await condition('Ready', { status: 'False', reason: 'PodNotReady' });
    expect(await nodeCondition('LinksUp')).toMatchObject({ status: 'True', reason: 'Test' });
    expect((await nodeStatus()).connectedHosts).toBe(1);
  });

  it('is out of reach with its node, and may serve on', async () => {
    await apply();
    await serve('fast', 'node-a', 1);
    await condition('Ready', { status: 'True' });
    const path = objectPath(RESOURCES.nodes, { name: 'node-a' });
    const taint = { key: 'node.kubernetes.io/unreachable', effect: 'NoExecute' };
    await cluster.api.mergePatch(path, { spec: { taints: [taint] } });
    await nodeReady({ status: 'Unknown', reason: 'NodeUnreachable' });
    expect((await nodeStatus()).connectedHosts).toBe(1);
    await cluster.api.mergePatch(path, { spec: { taints: null } });
  });
});

describe('a claim', () => {
  const backend = (persistentVolumeClaim: object) => ({ backend: { persistentVolumeClaim } });
  const templateVolumes = async () => {
    const daemonSet = await cluster.find(RESOURCES.daemonSets, 'weir-target-fast', namespace);
    return JSON.stringify(daemonSet?.['spec'].template.spec.volumes ?? []);
  };

  it('that appears is taken up, before it has a volume: its pods may be what it waits for', async () => {
    await apply({ namespaces: [{ nsid: 1, ...backend({ claimName: 'raw' }) }] });
    const missing = await condition('Accepted', { status: 'False', reason: 'ClaimNotFound' });
    expect(missing['message']).toContain(`no PersistentVolumeClaim raw in namespace ${namespace}: create it`);
    await cluster.createClaim(namespace, 'raw', 'Block');
    const waiting = await condition('Accepted', { status: 'True' });
    expect(waiting['message']).toContain('the pods wait for PersistentVolumeClaim raw');
    expect(await templateVolumes()).toContain('"claimName":"raw"');
    await serve();
    await condition('Ready', { status: 'True' });
    await cluster.bindClaim(namespace, 'raw', '1Gi');
    await cluster.waitFor('the claim to be seen bound', async () => {
      const accepted = await condition('Accepted', { status: 'True' });
      return accepted['message']?.includes('wait') === false;
    });
    // The dataplane that has reported so far is of the release before, and would refuse what it does not know.
    const expected = (bytes: number | undefined) =>
      cluster.waitFor(`the node to expect ${bytes} bytes`, async () => {
        const [object] = await nodeObjects();
        const device = object?.['spec'].subsystems[0].namespaces[0].backend.blockDevice;
        return device?.path === '/dev/weir/raw' && device.expectedSizeBytes === bytes;
      });
    await expected(undefined);
    const change = { specRevision: SPEC_REVISION };
    await cluster.reportServing(namespace, 'fast', 'node-a', 0, undefined, change);
    await expected(2 ** 30);
    // What has grown is looked at anew, by the pod that is there.
    const template = await templateVolumes();
    await cluster.bindClaim(namespace, 'raw', '2Gi');
    await expected(2 ** 31);
    expect(await templateVolumes()).toBe(template);
  });

  it('without a volume keeps no pod from serving: the edit waits until it is bound', async () => {
    await apply();
    await serve();
    await condition('Ready', { status: 'True' });
    await cluster.createClaim(namespace, 'raw', 'Block');
    const added = { nsid: 9, ...backend({ claimName: 'raw' }) };
    await apply({
      namespaces: [...(own() as unknown as { namespaces: object[] }).namespaces, added],
    });
    await condition('Accepted', { status: 'False', reason: 'ClaimNotBound' });
    expect(await templateVolumes()).not.toContain('"claimName":"raw"');
    await condition('Ready', { status: 'True' });
    await cluster.bindClaim(namespace, 'raw', '1Gi');
    await condition('Accepted', { status: 'True' });
    await cluster.waitFor('the new template', async () =>
      (await templateVolumes()).includes('"claimName":"raw"'),
    );
  });

  it('that many nodes may write serves from several, one for a single node does not', async () => {
    const raw = { namespaces: [{ nsid: 1, ...backend({ claimName: 'raw' }) }] };
    const twoNodes = { affinity: undefined, nodeSelector: { pool: 'rdma' } };
    await cluster.createClaim(namespace, 'raw', 'Block');
    await cluster.bindClaim(namespace, 'raw', '1Gi');
    await apply({ ...raw, ...twoNodes });
    const refused = await condition('Accepted', { status: 'False', reason: 'ClaimAccessMode' });
    expect(refused['message']).toContain('2 nodes use it (node-a, node-b): use a claim with ReadWriteMany');
    await cluster.createClaim(namespace, 'shared', 'Block', { accessModes: ['ReadWriteMany'] });
    await cluster.bindClaim(namespace, 'shared', '1Gi');
    await apply({ ...twoNodes, namespaces: [{ nsid: 1, ...backend({ claimName: 'shared' }) }] });
    await condition('Accepted', { status: 'True' });
    const names = (await nodeObjects()).map(({ metadata }) => metadata.name);
    expect(names.sort()).toEqual(['fast-node-a', 'fast-node-b']);
  });

  it('whose volume turns out to be on another node is refused', async () => {
    const volumeName = `${namespace}-raw`;
    await cluster.createClaim(namespace, 'raw', 'Block', { volumeName });
    await cluster.bindClaim(namespace, 'raw', '1Gi');
    await apply({ namespaces: [{ nsid: 1, ...backend({ claimName: 'raw' }) }] });
    await condition('Accepted', { status: 'True' });
    await cluster.createLocalVolume(volumeName, { namespace, name: 'raw' }, 'node-b');
    const refused = await condition('Accepted', { status: 'False', reason: 'ClaimOnOtherNode' });
    expect(refused['message']).toContain(`(${volumeName}) is not to be had there`);
  });

  it('that has grown lets the file on it grow', async () => {
    await cluster.createClaim(namespace, 'files', 'Filesystem');
    await cluster.bindClaim(namespace, 'files', '1Gi');
    const files = (size: string) => ({
      namespaces: [{ nsid: 1, ...backend({ claimName: 'files', file: { size } }) }],
    });
    const sizeBytes = async (): Promise<number> => {
      const [object] = await nodeObjects();
      return object?.['spec'].subsystems[0].namespaces[0].backend.file.sizeBytes as number;
    };
    await apply(files('512Mi'));
    await condition('Accepted', { status: 'True' });
    await apply(files('2Gi'));
    await condition('Accepted', { status: 'False', reason: 'ClaimTooSmall' });
    expect(await sizeBytes()).toBe(2 ** 29);
    await cluster.bindClaim(namespace, 'files', '3Gi');
    await condition('Accepted', { status: 'True' });
    await cluster.waitFor('the file to grow', async () => (await sizeBytes()) === 2 ** 31);
  });
});

describe('an edit', () => {
  it('reaches the node object, without a new pod when the dataplane can take it up live', async () => {
    await apply();
    const pod = await serve();
    const namespaces = [{ nsid: 5, backend: { memory: { size: '8Mi' } } }];
    await apply({
      namespaces: [...(own() as unknown as { namespaces: object[] }).namespaces, ...namespaces],
    });
    await cluster.waitFor('nsid 5', async () => {
      const [object] = await nodeObjects();
      const list = object?.['spec'].subsystems[0].namespaces as { nsid: number }[];
      return list.some(({ nsid }) => nsid === 5);
    });
    await condition('Progressing', { reason: 'Applying' });
    await cluster.reportServing(namespace, 'fast', 'node-a');
    await condition('Progressing', { reason: 'Complete' });
    expect((await cluster.find(RESOURCES.pods, pod, namespace))?.metadata.deletionTimestamp).toBeUndefined();
  });

  it('that is bad is refused with words, and what was served goes on', async () => {
    await apply();
    await serve();
    await condition('Ready', { status: 'True' });
    const before = (await nodeObjects())[0]?.metadata.generation;
    await apply({ namespaces: [{ nsid: 1, backend: { file: { path: '/etc/passwd', size: '1Gi' } } }] });
    const accepted = await condition('Accepted', { status: 'False', reason: 'PathNotAllowed' });
    expect(accepted['message']).toContain('/var/lib/weir');
    expect((await nodeObjects())[0]?.metadata.generation).toBe(before);
    await condition('Ready', { status: 'True' });
    await apply();
    await condition('Accepted', { status: 'True' });
    const refusals = (await events()).filter((event) => event['reason'] === 'PathNotAllowed');
    expect(refusals).toHaveLength(1);
    expect(refusals[0]?.['type']).toBe('Warning');
  });

  it('waits while the target is paused', async () => {
    await apply();
    await condition('Accepted', { status: 'True' });
    await apply({ paused: true, access: { policy: 'AnyHost' } });
    await condition('Progressing', { reason: 'Paused' });
    expect((await nodeObjects())[0]?.['spec'].access).toBeUndefined();
    expect((await nodeObjects())[0]?.['spec'].subsystems[0].access.policy).toBe('AllowList');
    await apply({ access: { policy: 'AnyHost' } });
    await cluster.waitFor('the edit', async () => {
      const [object] = await nodeObjects();
      return object?.['spec'].subsystems[0].access.policy === 'AnyHost';
    });
  });

  it('of a child by somebody else is undone', async () => {
    await apply();
    const [object] = await cluster.waitFor('a node object', async () => {
      const objects = await nodeObjects();
      return objects.length > 0 ? objects : undefined;
    });
    const path = objectPath(RESOURCES.targetNodes, { namespace, name: object?.metadata.name ?? '' });
    await cluster.api.mergePatch(path, { spec: { polling: { mode: 'Busy' } } });
    await cluster.waitFor('the operator', async () => {
      return ((await cluster.api.get(path)) as AnyObject)['spec'].polling.mode === 'Adaptive';
    });
    await cluster.api.delete(path);
    await cluster.waitFor('the object to be back', async () => (await nodeObjects()).length === 1);
  });
});

describe('a pod that the API server refuses', () => {
  it('is told as a refusal of the target that asks for it', async () => {
    // Overcommitting an extended resource is not allowed, which only the API server's own validation knows.
    await apply({ resources: { requests: { 'example.com/fpga': '1' } } });
    const refused = await condition('Accepted', { status: 'False', reason: 'InvalidSpec' });
    expect(refused['message']).toContain('refuses what follows from it: DaemonSet.apps');
    expect(refused['message']).toContain('resources.limits: Required value');
    await apply();
    await condition('Accepted', { status: 'True' });
  });
});

describe('devices by Dynamic Resource Allocation', () => {
  /** The operator anew, with this class, or with devices by a device plugin. */
  const restart = async (deviceClass?: string) => {
    stop.abort();
    await operator.ended;
    stop = new AbortController();
    const claims = deviceClass === undefined ? {} : { deviceAccess: 'ResourceClaim' as const, deviceClass };
    operator = await start(false, { ...SAMPLE_SETTINGS, ...claims });
  };
  const daemonSet = () => cluster.find(RESOURCES.daemonSets, 'weir-target-fast', namespace);
  /** What the DaemonSet controller reports when it has made pods as the DaemonSet says. */
  const settleDaemonSet = async () => {
    const observedGeneration = (await daemonSet())?.metadata.generation;
    const path = objectPath(RESOURCES.daemonSets, { namespace, name: 'weir-target-fast' }, 'status');
    await cluster.api.mergePatch(path, {
      status: {
        ...{ observedGeneration, desiredNumberScheduled: 1, currentNumberScheduled: 1 },
        ...{ numberMisscheduled: 0, numberReady: 1 },
      },
    });
  };
  const claimTemplate = (deviceClass: string) =>
    cluster.waitFor('a DaemonSet that claims the class', async () => {
      const set = await daemonSet();
      const name = set?.['spec'].template.spec.resourceClaims?.[0].resourceClaimTemplateName;
      const found = name && (await cluster.find(RESOURCES.resourceClaimTemplates, name, namespace));
      const [request] = found ? found['spec'].spec.devices.requests : [];
      return request?.exactly.deviceClassName === deviceClass ? found : undefined;
    });
  const templates = async () =>
    (await cluster.list(RESOURCES.resourceClaimTemplates, namespace)).map(({ metadata }) => metadata.name);

  it('are claimed by a template that the API server takes, one for each class; an unused one goes', async () => {
    await restart('rdma.example');
    await apply();
    await condition('Accepted', { status: 'True' });
    const earlier = await claimTemplate('rdma.example');
    expect(earlier?.metadata.ownerReferences).toMatchObject([{ kind: 'NvmeofTarget', name: 'fast' }]);
    const pod = await cluster.runPod(namespace, 'fast', 'node-a');
    await restart('other.example');
    const later = await claimTemplate('other.example');
    await settleDaemonSet();
    // The pod is outdated and silent: it is replaced, and needs its template until it has gone.
    await cluster.waitFor('the pod to be told to go', async () => {
      const found = await cluster.find(RESOURCES.pods, pod, namespace);
      return found === undefined || found.metadata.deletionTimestamp !== undefined;
    });
    await cluster.waitFor('the earlier template to go', async () => (await templates()).length === 1);
    expect(await templates()).toEqual([later?.metadata.name]);
    await cluster.api.delete(
      objectPath(RESOURCES.resourceClaimTemplates, { namespace, name: later?.metadata.name ?? '' }),
    );
    await cluster.waitFor('the template to be back', async () => (await templates()).length === 1);
    // No pod is left that uses it when devices come in another way.
    await restart();
    await cluster.waitFor('a DaemonSet that claims nothing', async () => {
      const { resourceClaims } = (await daemonSet())?.['spec'].template.spec ?? {};
      return (resourceClaims ?? []).length === 0;
    });
    expect(await templates()).toHaveLength(1);
    await settleDaemonSet();
    await cluster.waitFor('the last template to go', async () => (await templates()).length === 0);
  });
});

describe('a new template', () => {
  const onBoth = { affinity: undefined, nodeSelector: { pool: 'rdma' } };
  /** Data that both nodes see: what a subsystem over several nodes needs. */
  const shared = () => ({
    ...onBoth,
    namespaces: [{ nsid: 1, backend: { blockDevice: { path: `/dev/disk/by-id/${namespace}` } } }],
  });
  const newer = { resources: { requests: { cpu: '200m' } } };
  const daemonSetPath = () =>
    objectPath(RESOURCES.daemonSets, { namespace, name: 'weir-target-fast' }, 'status');
  /** What the DaemonSet controller says once it has seen a template. */
  const seen = async (generation: number) => {
    await cluster.waitFor('the new template', async () => {
      const daemonSet = await cluster.find(RESOURCES.daemonSets, 'weir-target-fast', namespace);
      return daemonSet?.metadata.generation === generation;
    });
    await cluster.api.mergePatch(daemonSetPath(), {
      status: {
        observedGeneration: generation,
        desiredNumberScheduled: 2,
        currentNumberScheduled: 2,
        numberMisscheduled: 0,
        numberReady: 2,
      },
    });
  };
  const podName = (node: string) => `weir-target-fast-${node}`;
  const isLeaving = async (node: string) => {
    const pod = await cluster.find(RESOURCES.pods, podName(node), namespace);
    return pod === undefined || pod.metadata.deletionTimestamp !== undefined;
  };
  const podGone = async (node: string) => {
    await cluster.waitFor(`the pod on ${node} to go`, () => isLeaving(node));
    await cluster.endPod(namespace, podName(node)).catch(() => undefined);
  };
  const object = (node: string) => cluster.find(RESOURCES.targetNodes, `fast-${node}`, namespace);
  const report = (node: string, hosts: number, change: object = {}) =>
    cluster.reportServing(namespace, 'fast', node, hosts, undefined, {
      specRevision: SPEC_REVISION,
      paths: 'Accessible',
      ...change,
    });
  const serveNew = async (node: string, hosts: number) => {
    await cluster.runPod(namespace, 'fast', node);
    await report(node, hosts);
  };
  const askedToLeave = (node: string) =>
    cluster.waitFor(
      `${node} to be asked to leave its paths`,
      async () => (await object(node))?.['spec'].paths,
    );
  const pathsGivenBack = (node: string) =>
    cluster.waitFor(`${node} to be given its paths back`, async () => {
      const found = await object(node);
      return found !== undefined && found['spec'].paths === undefined;
    });
  const progress = (words: string) =>
    cluster.waitFor(`Progressing to say "${words}"`, async () => {
      const { status } = await cluster.target(namespace, 'fast');
      const conditions = status?.conditions as { type: string; message: string }[] | undefined;
      return conditions?.some(({ type, message }) => type === 'Progressing' && message.includes(words));
    });

  it('replaces pods one node at a time, the next only when the last serves again', async () => {
    await apply({ ...onBoth, scope: 'PerNode' });
    await serve('fast', 'node-a');
    await serve('fast', 'node-b');
    await condition('Ready', { status: 'True' });
    await apply({ ...onBoth, scope: 'PerNode', ...newer });
    await seen(2);
    await podGone('node-a');
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await isLeaving('node-b')).toBe(false);
    await serve('fast', 'node-a');
    await cluster.waitFor('the pod on node-b to go', () => isLeaving('node-b'));
  });

  it('of another network replaces pods as one of another image does, and frees the port of the node', async () => {
    const networks = { 'k8s.v1.cni.cncf.io/networks': 'storage-net' };
    await apply({ ...onBoth, scope: 'PerNode' });
    await serve('fast', 'node-a');
    await serve('fast', 'node-b');
    await condition('Ready', { status: 'True' });
    const pod = async () => {
      const set = await cluster.find(RESOURCES.daemonSets, 'weir-target-fast', namespace);
      const { spec, metadata } = set?.['spec'].template ?? {};
      const { hostPort } = spec.containers[0].ports[0];
      const held = set?.metadata.annotations?.['weir.dev/metrics-port'];
      const { hostNetwork, dnsPolicy } = spec;
      return { hostNetwork, dnsPolicy, hostPort, held, ...metadata.annotations };
    };
    const { hostPort } = await pod();
    expect(hostPort).toBeGreaterThanOrEqual(SAMPLE_SETTINGS.portRange.first);
    expect(await pod()).toMatchObject({ hostNetwork: true, held: String(hostPort) });
    await apply({ ...onBoth, scope: 'PerNode', network: { mode: 'Pod', annotations: networks } });
    await seen(2);
    await podGone('node-a');
    expect(await pod()).toMatchObject({ dnsPolicy: 'ClusterFirst', ...networks });
    const { hostNetwork, hostPort: freed, held } = await pod();
    expect([hostNetwork, freed, held]).toEqual([undefined, undefined, undefined]);
    expect(await isLeaving('node-b')).toBe(false);
    await serve('fast', 'node-a');
    await cluster.waitFor('the pod on node-b to go', () => isLeaving('node-b'));
  });

  it('moves hosts to their other paths first, and waits until they are back; another leader goes on with it', async () => {
    await apply(shared());
    await serveNew('node-a', 2);
    await serveNew('node-b', 2);
    await condition('Ready', { status: 'True' });
    await apply({ ...shared(), ...newer });
    await seen(2);
    expect(await askedToLeave('node-a')).toEqual({ state: 'Inaccessible', ofPod: podName('node-a') });
    await progress('waiting for hosts to leave the paths through node-a');
    expect(await isLeaving('node-a')).toBe(false);

    stop.abort();
    await operator.ended;
    stop = new AbortController();
    operator = await start();
    await report('node-a', 2, { paths: 'Leaving' });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await isLeaving('node-a')).toBe(false);
    await report('node-a', 2, { paths: 'Inaccessible' });
    await podGone('node-a');
    expect((await object('node-b'))?.['spec'].paths).toBeUndefined();

    await serveNew('node-a', 1);
    await progress('waiting for 1 of 2 hosts to come back to node-a: nqn.2026-11.dev.weir:host-1');
    expect(await isLeaving('node-b')).toBe(false);
    await report('node-a', 2);
    await askedToLeave('node-b');
    const first = await object('node-a');
    expect(first?.['spec'].paths).toBeUndefined();
    expect(first?.metadata.annotations).toBeUndefined();

    await report('node-b', 2, { paths: 'Inaccessible' });
    await podGone('node-b');
    await serveNew('node-b', 2);
    await pathsGivenBack('node-b');
    // A dataplane reports on every generation; taking the request back was one.
    await report('node-b', 2);
    await condition('Progressing', { status: 'False', reason: 'Complete' });
  });

  it('sends a dataplane of the release before nothing that it does not know', async () => {
    await apply(shared());
    await serve('fast', 'node-a', 2);
    await serve('fast', 'node-b', 2);
    await condition('Ready', { status: 'True' });
    await apply({ ...shared(), ...newer });
    await seen(2);
    await podGone('node-a');
    for (const node of ['node-a', 'node-b']) expect((await object(node))?.['spec'].paths).toBeUndefined();
    await serveNew('node-a', 2);
    await podGone('node-b');
  });

  const cordon = (node: string, unschedulable: boolean) =>
    cluster.api.mergePatch(objectPath(RESOURCES.nodes, { name: node }), { spec: { unschedulable } });

  it('is not what it takes: a cordoned node gives up its paths while its hosts have others', async () => {
    await apply(shared());
    await serveNew('node-a', 2);
    await serveNew('node-b', 1);
    await condition('Ready', { status: 'True' });
    await cordon('node-a', true);
    try {
      await new Promise((resolve) => setTimeout(resolve, 500));
      expect((await object('node-a'))?.['spec'].paths).toBeUndefined();
      await report('node-b', 2);
      expect(await askedToLeave('node-a')).toEqual({ state: 'Inaccessible', ofPod: podName('node-a') });
      await report('node-b', 1);
      await pathsGivenBack('node-a');
      expect(await isLeaving('node-a')).toBe(false);
    } finally {
      await cordon('node-a', false);
    }
  });
});

describe('nodes', () => {
  it('that are selected later get an object, and lose it when they no longer are', async () => {
    await apply({ affinity: undefined, nodeSelector: { [namespace]: 'yes' }, scope: 'PerNode' });
    await condition('Ready', { reason: 'NoNodes' });
    const label = (value: string | null) =>
      cluster.api.mergePatch(objectPath(RESOURCES.nodes, { name: 'node-c' }), {
        metadata: { labels: { [namespace]: value } },
      });
    await label('yes');
    await cluster.waitFor('an object', async () => (await nodeObjects()).length === 1);
    await label(null);
    await cluster.waitFor('the object to go', async () => (await nodeObjects()).length === 0);
  });
});

describe('two targets', () => {
  /** What a second target needs to stand beside the first. */
  const beside = () => ({
    nqn: `nqn.2026-11.dev.weir:${namespace}-2`,
    listeners: [{ name: 'other', addressFrom: { cidr: '10.9.0.0/24' }, port: 5000 + sequence }],
    namespaces: [{ nsid: 1, backend: { memory: { size: '8Mi' } } }],
  });

  it.each<[string, object, string]>([
    ['an address and port', { listeners: undefined }, 'ListenerConflict'],
    ['a file that both write', { namespaces: undefined }, 'BackendConflict'],
  ])(
    'with %s: the older wins, says so, and the other is accepted when it changes',
    async (_, same, reason) => {
      await apply();
      await condition('Accepted', { status: 'True' });
      await new Promise((resolve) => setTimeout(resolve, 1100)); // Creation times have a resolution of a second.
      const shared = Object.fromEntries(
        Object.keys(same).map((field) => [field, own()[field as 'listeners']]),
      );
      await apply({ ...beside(), ...shared }, 'second');
      const refused = await condition('Accepted', { status: 'False', reason }, 'second');
      expect(refused['message']).toContain(`NvmeofTarget ${namespace}/fast on node node-a`);
      expect(await nodeObjects()).toHaveLength(1);
      await condition('Accepted', { status: 'True' });
      await apply(beside(), 'second');
      await condition('Accepted', { status: 'True' }, 'second');
    },
  );

  it('with one NQN: the older wins, and the other is accepted when it goes', async () => {
    await apply();
    await condition('Accepted', { status: 'True' });
    await new Promise((resolve) => setTimeout(resolve, 1100)); // Creation times have a resolution of a second.
    await apply({ ...beside(), nqn: `nqn.2026-11.dev.weir:${namespace}` }, 'second');
    await condition('Accepted', { status: 'False', reason: 'NQNInUse' }, 'second');
    await remove();
    await condition('Accepted', { status: 'True' }, 'second');
  });

  it('on one node get different ports for their metrics', async () => {
    await apply();
    await apply(beside(), 'second');
    const ports = await cluster.waitFor('both DaemonSets', async () => {
      const sets = await cluster.list(RESOURCES.daemonSets, namespace);
      return sets.length === 2
        ? sets.map((set) => set['spec'].template.spec.containers[0].ports[0].containerPort as number)
        : undefined;
    });
    expect(new Set(ports).size).toBe(2);
  });
});

describe('deletion', () => {
  it('waits while hosts are connected and says so, then drains and leaves nothing', async () => {
    await apply();
    const pod = await serve('fast', 'node-a', 1);
    await condition('Ready', { status: 'True' });
    await remove();
    const blocked = await condition('Progressing', { reason: 'DeletionBlocked' });
    expect(blocked['message']).toContain('nqn.2026-11.dev.weir:host-0');
    expect(await cluster.find(RESOURCES.daemonSets, 'weir-target-fast', namespace)).toBeDefined();
    await cluster.waitFor('an Event', async () =>
      (await events()).some((event) => event['reason'] === 'DeletionBlocked'),
    );
    await cluster.reportServing(namespace, 'fast', 'node-a', 0);
    await condition('Progressing', { reason: 'Draining' });
    await cluster.waitFor(
      'the DaemonSet to go',
      async () => (await cluster.find(RESOURCES.daemonSets, 'weir-target-fast', namespace)) === undefined,
    );
    // The pod still drains: its object and its identity stay until it is gone.
    expect(await nodeObjects()).toHaveLength(1);
    await cluster.endPod(namespace, pod);
    await gone();
    expect(await nodeObjects()).toHaveLength(0);
    expect(await cluster.find(RESOURCES.serviceAccounts, 'weir-target-fast', namespace)).toBeUndefined();
    expect(await cluster.find(RESOURCES.roles, 'weir-target-fast', namespace)).toBeUndefined();
  });

  it('does not wait for hosts with deletionPolicy Drain', async () => {
    await apply({ deletionPolicy: 'Drain' });
    const pod = await serve('fast', 'node-a', 3);
    await remove();
    await condition('Progressing', { reason: 'Draining' });
    await cluster.endPod(namespace, pod);
    await gone();
  });

  it('of a target that was never accepted is at once', async () => {
    await apply({ namespaces: [{ nsid: 1, backend: { file: { path: '/etc/x', size: '1Gi' } } }] });
    await condition('Accepted', { status: 'False' });
    await remove();
    await gone();
  });
});

describe('the operator', () => {
  it('says when pod security keeps its pods out, and with which label they may come', async () => {
    await cluster.api.mergePatch(objectPath(RESOURCES.namespaces, { name: namespace }), {
      metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
    });
    await apply();
    const progressing = await condition('Progressing', { reason: 'PodSecurityForbids' });
    expect(progressing['message']).toContain(`kubectl label namespace ${namespace}`);
  });

  it('serves its probes and metrics', async () => {
    await apply();
    await condition('Accepted', { status: 'True' });
    const get = async (path: string) => (await fetch(`http://127.0.0.1:${operator.port}${path}`)).text();
    expect(await get('/readyz')).toBe('ok\n');
    expect(await get('/metrics')).toMatch(/controller_runtime_reconcile_total\{.*"success"\} [1-9]/);
  });

  it('leaves the work to one of two replicas, and hands it over when that one ends', async () => {
    stop.abort();
    await operator.ended;
    const stopFirst = new AbortController();
    stop = stopFirst;
    const first = await start(true);
    const leads = async ({ port }: RunningOperator) =>
      (await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()).includes(
        'leader_election_master_status{name="weir-operator"} 1',
      );
    // Its own word, not the Lease's: that one may not be there yet, or still name who led before.
    await cluster.waitFor('the first to lead', () => leads(first));
    stop = new AbortController();
    operator = await start(true);
    await apply();
    await condition('Accepted', { status: 'True' });
    expect([await leads(first), await leads(operator)]).toEqual([true, false]);
    stopFirst.abort();
    expect(await first.ended).toBe('stopped');
    await cluster.waitFor('the second to lead', () => leads(operator));
    await apply({ access: { policy: 'AnyHost' } });
    await cluster.waitFor('the edit', async () => {
      const [object] = await nodeObjects();
      return object?.['spec'].subsystems[0].access.policy === 'AnyHost';
    });
  });
});
