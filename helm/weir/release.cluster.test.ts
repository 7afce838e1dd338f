import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SPEC_REVISION } from '../../crds/nvmeof-target-node.ts';
import { listPath, objectPath, RESOURCES } from '../../operator/kubernetes/resource.ts';
import { applyKnownFields, undeclaredFields } from '../../operator/kubernetes/undeclared-fields.ts';
import { startOperator } from '../../operator/operator.ts';
import { SAMPLE_SETTINGS, sampleSpecInput } from '../../operator/testing/samples.ts';
import { type AnyObject, TestCluster } from '../../operator/testing/test-cluster.ts';
import { CHART, Helm, type Manifest, RELEASE, RELEASE_NAMESPACE } from './tests/helm.ts';

/** The release before this one, as `helm package` made it. */
const PREVIOUS = fileURLToPath(new URL('tests/weir-0.1.0.tgz', import.meta.url));
const OPERATOR = 'weir-operator';
const TEST_POD = 'weir-operator-test';

let helm: Helm;
let cluster: TestCluster;
beforeAll(async () => {
  [helm, cluster] = await Promise.all([Helm.open(), TestCluster.start({ crds: false })]);
});
afterAll(async () => {
  await cluster?.stop();
  helm?.close();
});

const kubectl = (...args: string[]) => helm.kubectl(cluster.kubeconfig, ...args);
const release = (...args: string[]) => helm.release(cluster.kubeconfig, ...args);

const renderings = new Map<string, Promise<Manifest[]>>();

/** The objects of a release: what a chart is rendered to, without what exists for `helm test` only. */
async function rendered(chart: string, ...args: string[]): Promise<Manifest[]> {
  const key = [chart, ...args].join(' ');
  const rendering = renderings.get(key) ?? helm.template(args, chart);
  renderings.set(key, rendering);
  const manifests = await rendering;
  return manifests.filter(({ metadata }) => metadata.annotations?.['helm.sh/hook'] === undefined);
}

const identity = ({ kind, metadata }: { kind: string; metadata: { name: string } }) =>
  `${kind.toLowerCase()}/${metadata.name}`;

/** Everything in the cluster that helm has made, of every kind that either chart makes. */
async function madeByHelm(): Promise<AnyObject[]> {
  const charts = await Promise.all([rendered(PREVIOUS), rendered(CHART)]);
  const kinds = new Set([...charts.flat().map(({ kind }) => kind), 'Pod', 'Secret', 'ConfigMap', 'Job']);
  const selector = ['-l', 'app.kubernetes.io/part-of=weir,app.kubernetes.io/managed-by=Helm'];
  const { items } = JSON.parse(await kubectl('get', [...kinds].join(','), '-A', ...selector, '-o', 'json'));
  return items as AnyObject[];
}

/** That the cluster holds exactly what the chart says, each object of this chart's version, which is returned. */
async function expectRelease(chart: string, ...args: string[]): Promise<string | undefined> {
  const [made, wanted] = await Promise.all([madeByHelm(), rendered(chart, ...args)]);
  expect(made.map((object) => identity(object as unknown as Manifest)).sort()).toEqual(
    wanted.map(identity).sort(),
  );
  const version = wanted[0]?.metadata.labels?.['helm.sh/chart'];
  for (const { metadata } of made) expect(metadata.labels?.['helm.sh/chart'], metadata.name).toBe(version);
  for (const crd of wanted.filter(({ kind }) => kind === 'CustomResourceDefinition')) {
    const stored = made.find(({ metadata }) => metadata.name === crd.metadata.name);
    expect(stored?.['spec'].versions[0].schema, crd.metadata.name).toEqual(crd['spec'].versions[0].schema);
  }
  return version;
}

const fast = { namespace: 'storage', name: 'fast' };
const target = () => cluster.target(fast.namespace, fast.name);

/** Runs the operator of this repository with the permissions that the chart in the cluster gives it. */
async function withOperator(work: () => Promise<void>, settings = SAMPLE_SETTINGS): Promise<void> {
  const stop = new AbortController();
  const operator = await startOperator(
    cluster.configFor(await cluster.accountToken(RELEASE_NAMESPACE, OPERATOR)),
    {
      namespace: RELEASE_NAMESPACE,
      metricsAddress: '127.0.0.1:0',
      leaderElect: true,
      logLevel: 'info',
      dataplane: settings,
    },
    pino({ level: 'silent' }),
    stop.signal,
  );
  try {
    await work();
  } finally {
    stop.abort();
    await operator.ended;
  }
}

/** What the Deployment controller would report of two replicas. */
async function runDeployment(available: number): Promise<void> {
  const path = `/apis/apps/v1/namespaces/${RELEASE_NAMESPACE}/deployments/${OPERATOR}`;
  const { metadata } = (await cluster.api.get(path)) as AnyObject;
  const counts = { replicas: 2, updatedReplicas: 2, readyReplicas: available, availableReplicas: available };
  await cluster.api.mergePatch(`${path}/status`, {
    status: { observedGeneration: metadata.generation, ...counts },
  });
}

/** What the kubelet would do with the pod of `helm test`: its command, with its token; then how it ended. */
async function runTestPod(): Promise<string> {
  const pod = await cluster.waitFor('the pod of helm test', () =>
    cluster.find(RESOURCES.pods, TEST_POD, RELEASE_NAMESPACE),
  );
  const [container] = pod['spec'].containers;
  const token = await cluster.accountToken(RELEASE_NAMESPACE, pod['spec'].serviceAccountName, TEST_POD);
  const kubeconfig = join(helm.home, 'test-pod.kubeconfig');
  await writeFile(kubeconfig, cluster.configFor(token).exportConfig());
  const program = container.command[0].replace(
    '/opt/weir/',
    fileURLToPath(new URL('../../', import.meta.url)),
  );
  const { code, output } = await new Promise<{ code: number; output: string }>((resolve) => {
    const options = { env: { ...process.env, KUBECONFIG: kubeconfig }, timeout: 90_000 };
    execFile(process.execPath, [program, ...container.args], options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : 1, output: `${stdout}${stderr}` }),
    );
  });
  await cluster.api.mergePatch(objectPath(RESOURCES.pods, pod.metadata as never, 'status'), {
    status: { phase: code === 0 ? 'Succeeded' : 'Failed' },
  });
  return output;
}

/** `helm test`, and what its pod wrote. */
async function helmTest(): Promise<{ helm: string; pod: string }> {
  const testing = release('test', RELEASE).catch((error: Error) => error.message);
  const pod = await runTestPod();
  return { helm: await testing, pod };
}

// One release's life, in order.
describe('a release on a real API server', () => {
  it('is installed as the previous version, with a target', async () => {
    // What the namespace does not let in would fail here, and later in helm test.
    await cluster.createNamespace(RELEASE_NAMESPACE, { 'pod-security.kubernetes.io/enforce': 'restricted' });
    await release('install', RELEASE, PREVIOUS);
    await kubectl('wait', '--for=condition=Established', 'crd', '--all', '--timeout=20s');
    expect(await expectRelease(PREVIOUS)).toBe('weir-0.1.0');
    await cluster.createNamespace(fast.namespace);
    await cluster.createNode('node-a');
    await cluster.applyTarget(fast.namespace, fast.name, sampleSpecInput());
  });

  it('is upgraded: CRDs too, targets kept, nothing of the old one left over', async () => {
    const before = await target();
    const notes = await release('upgrade', RELEASE, CHART);
    expect(notes).toContain('kubectl -n weir-system rollout status deployment/weir-operator');
    expect(notes).toContain('kubectl explain nvmeoftarget.spec');
    expect(notes).toContain('"rdma/shared"');
    expect(notes).not.toContain('WARNING');
    expect(await expectRelease(CHART)).not.toBe('weir-0.1.0');
    const after = await target();
    expect(after.metadata).toMatchObject({
      uid: before.metadata.uid,
      generation: before.metadata.generation,
    });
    // Fields of this release have their defaults.
    expect(after['spec']).toMatchObject(before['spec']);
    expect(await kubectl('explain', 'nvmeoftarget.spec.link.holdMilliseconds')).toContain('shorter flap');
  });

  it('has an operator that the pod security level "restricted" lets in', async () => {
    const path = `/apis/apps/v1/namespaces/${RELEASE_NAMESPACE}/deployments/${OPERATOR}`;
    const { template } = ((await cluster.api.get(path)) as AnyObject)['spec'];
    const pods = `${listPath(RESOURCES.pods, RELEASE_NAMESPACE)}?dryRun=All`;
    const pod = { metadata: { name: 'operator', labels: template.metadata.labels }, spec: template.spec };
    await cluster.api.create(pods, pod);
    const lax = { ...pod, spec: { ...pod.spec, securityContext: {} } };
    await expect(cluster.api.create(pods, lax)).rejects.toThrow('violates PodSecurity "restricted:latest"');
  });

  it('serves the old targets with the new operator, and passes helm test', async () => {
    await runDeployment(2);
    await withOperator(async () => {
      await cluster.waitForCondition(fast.namespace, fast.name, 'Accepted', { status: 'True' });
      await cluster.runPod(fast.namespace, fast.name, 'node-a');
      await cluster.reportServing(fast.namespace, fast.name, 'node-a');
      await cluster.waitForCondition(fast.namespace, fast.name, 'Ready', { status: 'True' });
      await release('upgrade', RELEASE, CHART, '--set', 'test.targets={storage/fast}');
      await runDeployment(2);
      const result = await helmTest();
      expect(result.pod).toContain('8 checks passed');
      expect(result.pod).not.toContain('FAILED');
      expect(result.pod).toContain('nvme discover -t rdma -a 10.9.0.1 -s 4420');
      expect(result.helm).toContain('Succeeded');
    });
    // Nothing that the test made stays.
    await expectRelease(CHART, '--set', 'test.targets={storage/fast}');
  });

  it('fails helm test where something is wrong, and says what', async () => {
    await release('upgrade', RELEASE, CHART, '--set', 'test.targets={storage/fast},test.timeoutSeconds=1');
    await cluster.api.delete(
      '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/weir-operator-weir-system-dataplane',
    );
    await kubectl('patch', 'crd', 'nvmeoftargets.weir.dev', '--type=json', '-p', LAX_SCHEMA);
    await cluster.waitFor('the API server to take everything', () =>
      cluster.api.create(`${listPath(RESOURCES.targets, 'default')}?dryRun=All`, {
        apiVersion: 'weir.dev/v1alpha1',
        kind: 'NvmeofTarget',
        metadata: { name: 'anything' },
        spec: { anything: true },
      }),
    );
    await cluster.api.mergePatch(objectPath(RESOURCES.targets, fast, 'status'), {
      status: { conditions: [{ type: 'Ready', status: 'False', message: 'the link is down' }] },
    });
    await runDeployment(0);
    const result = await helmTest();
    expect(result.helm).toContain('failed');
    for (const complaint of [
      'FAILED  the operator is available: 0 of 2 replicas available',
      'FAILED  the operator has a leader at work',
      'FAILED  a wrong NvmeofTarget is refused: it was accepted',
      'FAILED  the admission policy is in force: a dataplane may create NvmeofTargetNodes',
      'FAILED  NvmeofTarget storage/fast serves: it is not Ready: the link is down',
      '5 of 8 checks failed',
    ]) {
      expect(result.pod).toContain(complaint);
    }
    // Its pod stays for its log, and no permission.
    const left = await kubectl(
      'get',
      'pod,role,rolebinding,serviceaccount',
      '-n',
      RELEASE_NAMESPACE,
      '-o',
      'name',
    );
    expect(left.split('\n').filter((name) => name.includes('-test'))).toEqual([`pod/${TEST_POD}`]);
    await kubectl('delete', 'pod', TEST_POD, '-n', RELEASE_NAMESPACE, '--force', '--grace-period=0');
  });

  it('is rolled back and forward again', async () => {
    const before = await target();
    await release('rollback', RELEASE, '1');
    await expectRelease(PREVIOUS);
    expect((await target()).metadata.uid).toBe(before.metadata.uid);
    // A dataplane of this release runs on until its pod is replaced: it leaves out what the older CRD refuses.
    const listeners = [{ name: 'storage', phase: 'Serving' }];
    const outages = [{ startTime: '2026-11-23T08:00:00Z', reason: 'LinkDown' }];
    const report = (change: object) =>
      cluster.reportServing(fast.namespace, fast.name, 'node-a', 0, undefined, change);
    const newer = {
      version: 'newer',
      specRevision: SPEC_REVISION,
      listeners: [{ ...listeners[0], outages }],
    };
    const named = new Set<string>();
    const reportKnown = () =>
      applyKnownFields({ status: newer }, async ({ status }) => {
        await report(status).catch((error: unknown) => {
          for (const field of undeclaredFields(error)) named.add(field);
          throw error;
        });
      });
    // The API server takes up the older schema a moment after the CRD was written.
    await cluster.waitFor('the older schema', async () => {
      await reportKnown();
      return named.size > 0;
    });
    expect([...named].sort()).toEqual(['status.listeners.outages', 'status.specRevision']);
    const reported = await cluster.find(RESOURCES.targetNodes, 'fast-node-a', fast.namespace);
    expect(reported?.['status']).toMatchObject({ version: 'newer', listeners });
    const values = ['--set', 'operator.replicas=1', '--set', 'dataplane.deviceAccess=Privileged'];
    expect(await release('upgrade', RELEASE, CHART, ...values)).toContain(
      'WARNING: dataplane.deviceAccess is Privileged',
    );
    await expectRelease(CHART, ...values);
    expect((await target())['spec']).toEqual(before['spec']);
    await withOperator(
      async () => {
        await cluster.waitFor('the privileged pods, which the admission policy permits now', async () => {
          const daemonSet = await cluster.find(RESOURCES.daemonSets, 'weir-target-fast', fast.namespace);
          return daemonSet?.['spec'].template.spec.containers[0].securityContext.privileged;
        });
      },
      { ...SAMPLE_SETTINGS, deviceAccess: 'Privileged' },
    );
  });

  it('leaves CRDs and targets behind when it is uninstalled, and nothing else', async () => {
    const { uid } = (await target()).metadata;
    await release('uninstall', RELEASE);
    expect((await madeByHelm()).map((object) => identity(object as unknown as Manifest)).sort()).toEqual([
      'customresourcedefinition/nvmeoftargetnodes.weir.dev',
      'customresourcedefinition/nvmeoftargets.weir.dev',
    ]);
    expect((await target()).metadata.uid).toBe(uid);
    expect(await cluster.find(RESOURCES.daemonSets, 'weir-target-fast', fast.namespace)).toBeDefined();
    expect(await kubectl('get', 'all,role,rolebinding,secret', '-n', RELEASE_NAMESPACE, '-o', 'name')).toBe(
      '',
    );
  });

  it('takes up what it left when it is installed again', async () => {
    await release('install', RELEASE, CHART);
    await expectRelease(CHART);
    await withOperator(async () => {
      await cluster.api.delete(objectPath(RESOURCES.targets, fast));
      await cluster.waitForCondition(fast.namespace, fast.name, 'Progressing', { reason: 'Draining' });
      await cluster.endPod(fast.namespace, 'weir-target-fast-node-a');
      await cluster.waitFor(
        'the target to go',
        async () => !(await cluster.find(RESOURCES.targets, fast.name, fast.namespace)),
      );
    });
  });
});

/** A patch that makes a CRD take everything, as one of another origin might. */
const LAX_SCHEMA = JSON.stringify([
  {
    op: 'replace',
    path: '/spec/versions/0/schema/openAPIV3Schema',
    value: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
  },
]);
