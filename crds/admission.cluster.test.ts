import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ApiError } from '../operator/kubernetes/api-error.ts';
import { sampleSpecInput } from '../operator/testing/samples.ts';
import { type AnyObject, TestCluster } from '../operator/testing/test-cluster.ts';

const uuid = '6b1f7f0e-2a52-4f0f-8f2f-0e5b8f3c1a10';
const memory = { memory: { size: '1Gi' } };
const listener = { name: 'storage', addressFrom: { cidr: '10.9.0.0/24' } };

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(async () => {
  await cluster?.stop();
});

let sequence = 0;
function apply(change: object, name?: string): Promise<AnyObject> {
  sequence += 1;
  return cluster.applyTarget('default', name ?? `t${sequence}`, sampleSpecInput(change));
}

async function refusal(change: object, name?: string): Promise<string> {
  try {
    await apply(change, name);
    return 'accepted';
  } catch (error) {
    if (error instanceof ApiError) return error.message;
    throw error;
  }
}

describe('the API server', () => {
  it('fills in every default', async () => {
    const { spec } = await apply({});
    expect(spec.listeners[0]).toMatchObject({ port: 4420, addressFamily: 'IPv4' });
    expect(spec.access).toEqual({ policy: 'AllowList', hosts: [] });
    expect(spec.link.memoryRegistration).toEqual({ maxBackoffSeconds: 3, allowDegraded: true });
    expect(spec).toMatchObject({ scope: 'Shared', deletionPolicy: 'Protect', paused: false });
  });

  it.each<[string, object]>([
    ['no namespaces', { namespaces: [] }],
    [
      'as many listeners as there may be',
      {
        listeners: Array.from({ length: 16 }, (_, index) => ({
          ...listener,
          name: `l${index}`,
          port: 4420 + index,
        })),
      },
    ],
    [
      'as many namespaces as there may be',
      {
        namespaces: Array.from({ length: 1024 }, (_, index) => ({ nsid: index + 1, backend: memory })),
      },
    ],
    [
      'an IPv6 listener',
      { listeners: [{ ...listener, addressFamily: 'IPv6', addressFrom: { address: 'fd00::1' } }] },
    ],
  ])('takes %s', async (_, change) => {
    expect(await refusal(change)).toBe('accepted');
  });

  it.each<[string, object, string]>([
    ['no listener', { listeners: [] }, 'spec.listeners'],
    [
      'two address sources',
      { listeners: [{ ...listener, addressFrom: { cidr: '10.9.0.0/24', interface: 'a' } }] },
      'spec.listeners[0].addressFrom: Invalid value: set exactly one of',
    ],
    [
      'an address that is none',
      { listeners: [{ ...listener, addressFrom: { address: 'node-a' } }] },
      'must be an IPv4',
    ],
    [
      'a family that disagrees',
      { listeners: [{ ...listener, addressFrom: { address: 'fd00::1' } }] },
      'addressFamily',
    ],
    [
      'two listeners on one address and port',
      { listeners: [listener, { ...listener, name: 'b' }] },
      'two listeners have the same address and port',
    ],
    [
      'two listeners of one name',
      { listeners: [listener, { ...listener, port: 1 }] },
      'duplicate entries for key',
    ],
    ['an unknown port', { listeners: [{ ...listener, port: 65536 }] }, 'spec.listeners[0].port'],
    ['a malformed NQN', { nqn: 'fast' }, 'spec.nqn'],
    ['an NQN that is too long', { nqn: `nqn.2026-11.dev.weir:${'x'.repeat(250)}` }, 'spec.nqn'],
    [
      'no backend',
      { namespaces: [{ nsid: 1, backend: {} }] },
      'set exactly one of blockDevice, file, memory',
    ],
    ['a size of 0', { namespaces: [{ nsid: 1, backend: { memory: { size: '0' } } }] }, 'must be more than 0'],
    [
      'a size that is no multiple',
      { namespaces: [{ nsid: 1, backend: { memory: { size: '5000' } } }] },
      'multiple of 4Ki',
    ],
    [
      'a path that climbs',
      { namespaces: [{ nsid: 1, backend: { file: { path: '/a/../b', size: '1Gi' } } }] },
      'file.path',
    ],
    [
      'two namespaces of one id',
      {
        namespaces: [
          { nsid: 1, backend: memory },
          { nsid: 1, backend: memory },
        ],
      },
      'duplicate entries for key',
    ],
    [
      'hosts beside AnyHost',
      { access: { policy: 'AnyHost', hosts: [{ nqn: 'nqn.2026-11.a:b' }] } },
      'AnyHost',
    ],
    ['an I/O size that is no power of two', { queues: { maxIOSizeBytes: 5000 } }, 'power of two'],
    [
      'UUIDs with scope PerNode',
      { scope: 'PerNode', namespaces: [{ nsid: 1, uuid, backend: memory }] },
      'scope PerNode',
    ],
  ])('refuses %s and names the field', async (_, change, message) => {
    expect(await refusal(change)).toContain(message);
  });

  it('refuses a name that cannot be a label', async () => {
    expect(await refusal({}, 'x'.repeat(64))).toContain('the name is a label of every child object');
    expect(await refusal({}, 'a.b')).toContain('the name is a label of every child object');
  });

  it('refuses an unknown field when asked to be strict, as kubectl does', async () => {
    const path = '/apis/weir.dev/v1alpha1/namespaces/default/nvmeoftargets?fieldValidation=Strict';
    const body = { metadata: { name: 'strict' }, spec: { ...sampleSpecInput(), listner: [] } };
    await expect(
      cluster.api.create(path, { apiVersion: 'weir.dev/v1alpha1', kind: 'NvmeofTarget', ...body }),
    ).rejects.toThrow('unknown field "spec.listner"');
  });

  it.each<[string, object, object, string]>([
    ['another NQN', { nqn: 'nqn.2026-11.a:b' }, { nqn: 'nqn.2026-11.a:c' }, 'nqn is immutable'],
    ['an NQN where there was none', { nqn: undefined }, { nqn: 'nqn.2026-11.a:c' }, 'nqn is immutable'],
    ['another scope', { scope: 'PerNode' }, { scope: 'Shared' }, 'scope is immutable'],
    [
      'another UUID',
      { namespaces: [{ nsid: 1, uuid, backend: memory }] },
      { namespaces: [{ nsid: 1, uuid: uuid.replace('6', '7'), backend: memory }] },
      'uuid is immutable',
    ],
  ])('refuses an edit to %s', async (_, before, after, message) => {
    await apply(before, 'edited');
    expect(await refusal(after, 'edited')).toContain(message);
    await cluster.api.delete('/apis/weir.dev/v1alpha1/namespaces/default/nvmeoftargets/edited');
  });

  it('takes every other edit', async () => {
    await apply({}, 'changed');
    expect(await refusal({ namespaces: [{ nsid: 7, backend: memory }], paused: true }, 'changed')).toBe(
      'accepted',
    );
  });
});
