import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ApiError } from '../operator/kubernetes/api-error.ts';
import { apiVersionOf, objectPath, RESOURCES, type Resource } from '../operator/kubernetes/resource.ts';
import { sampleSpecInput } from '../operator/testing/samples.ts';
import { type AnyObject, TestCluster } from '../operator/testing/test-cluster.ts';
import {
  NODE_BASE,
  NODE_CASES,
  NODE_EDITS,
  TARGET_CASES,
  TARGET_EDITS,
  TARGET_NAME_RULE,
} from './admission-cases.ts';

const namespace = 'default';

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(async () => {
  await cluster?.stop();
});

let sequence = 0;

async function apply(resource: Resource, spec: object, name?: string): Promise<AnyObject> {
  sequence += 1;
  const metadata = { namespace, name: name ?? `t${sequence}` };
  const body = { apiVersion: apiVersionOf(resource), kind: resource.kind, metadata, spec };
  return (await cluster.api.apply(objectPath(resource, metadata), body, 'kubectl')) as AnyObject;
}

/** What the API server answers to an object: `accepted`, or why not. */
async function answer(resource: Resource, spec: object, name?: string): Promise<string> {
  try {
    await apply(resource, spec, name);
    return 'accepted';
  } catch (error) {
    if (error instanceof ApiError) return error.message;
    throw error;
  }
}

const kinds = [
  { resource: RESOURCES.targets, base: sampleSpecInput(), cases: TARGET_CASES, edits: TARGET_EDITS },
  { resource: RESOURCES.targetNodes, base: NODE_BASE, cases: NODE_CASES, edits: NODE_EDITS },
];

describe.each(kinds)('the API server judges an $resource.kind', ({ resource, base, cases, edits }) => {
  it.each(cases)('with $name', async ({ change, refusedWith }) => {
    expect(await answer(resource, { ...base, ...change })).toContain(refusedWith ?? 'accepted');
  });

  it.each(edits)('edited to have $name', async ({ before, after, refusedWith }) => {
    sequence += 1;
    const name = `edited-${sequence}`;
    await apply(resource, { ...base, ...before }, name);
    expect(await answer(resource, { ...base, ...after }, name)).toContain(refusedWith ?? 'accepted');
  });
});

describe('the API server', () => {
  it('fills in every default', async () => {
    const { spec } = await apply(RESOURCES.targets, sampleSpecInput());
    expect(spec.listeners[0]).toMatchObject({ port: 4420, addressFamily: 'IPv4' });
    expect(spec.access).toEqual({ policy: 'AllowList', hosts: [] });
    expect(spec.namespaces[0]).toMatchObject({ readOnly: false, anaGroup: 1 });
    expect(spec).toMatchObject({
      scope: 'Shared',
      nodeSelector: {},
      tolerations: [],
      resources: { requests: {}, limits: {} },
      queues: { maxIOQueues: 16, queueDepth: 128, inCapsuleDataSizeBytes: 4096, maxIOSizeBytes: 131072 },
      keepAlive: { minimumSeconds: 5 },
      link: {
        holdMilliseconds: 500,
        drainTimeoutSeconds: 15,
        upStabilizationMilliseconds: 200,
        memoryRegistration: { maxBackoffSeconds: 3, allowDegraded: true },
        recreateSoftDevice: 'Never',
      },
      polling: { mode: 'Adaptive', cores: 1 },
      deletionPolicy: 'Protect',
      paused: false,
    });
  });

  it('refuses a name that cannot be a label', async () => {
    for (const name of ['x'.repeat(64), 'a.b'])
      expect(await answer(RESOURCES.targets, sampleSpecInput(), name)).toContain(TARGET_NAME_RULE);
  });

  it('refuses an unknown field when asked to be strict, as kubectl does', async () => {
    const path = '/apis/weir.dev/v1alpha1/namespaces/default/nvmeoftargets?fieldValidation=Strict';
    const body = { metadata: { name: 'strict' }, spec: { ...sampleSpecInput(), listner: [] } };
    await expect(
      cluster.api.create(path, { apiVersion: 'weir.dev/v1alpha1', kind: 'NvmeofTarget', ...body }),
    ).rejects.toThrow('unknown field "spec.listner"');
  });
});
