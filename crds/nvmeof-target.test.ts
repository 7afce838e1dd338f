import { describe, expect, it } from 'vitest';
import { nvmeofTargetSpecSchema } from './nvmeof-target.ts';
import { formatProblems, problemsOf } from './validation.ts';

const minimal = {
  listeners: [{ name: 'storage', addressFrom: { cidr: '10.9.0.0/24' } }],
  namespaces: [{ nsid: 1, backend: { memory: { size: '1Gi' } } }],
};
const listener = minimal.listeners[0];
const uuid = '6b1f7f0e-2a52-4f0f-8f2f-0e5b8f3c1a10';

function problems(spec: unknown): string {
  const result = nvmeofTargetSpecSchema.safeParse(spec, { reportInput: true });
  return result.success ? '' : formatProblems(problemsOf(result.error, 'spec'));
}

describe('an NvmeofTarget', () => {
  it('needs no more than a listener, and gets every default', () => {
    const spec = nvmeofTargetSpecSchema.parse({ listeners: minimal.listeners });
    expect(spec.listeners[0]).toMatchObject({ port: 4420, addressFamily: 'IPv4' });
    expect(spec.access).toEqual({ policy: 'AllowList', hosts: [] });
    expect(spec.queues).toEqual({
      maxIOQueues: 16,
      queueDepth: 128,
      inCapsuleDataSizeBytes: 4096,
      maxIOSizeBytes: 131072,
    });
    expect(spec.link.memoryRegistration).toEqual({ maxBackoffSeconds: 3, allowDegraded: true });
    expect(spec).toMatchObject({ scope: 'Shared', deletionPolicy: 'Protect', paused: false, namespaces: [] });
  });

  const accepted: [string, object][] = [
    [
      'an IPv6 address',
      { listeners: [{ ...listener, addressFamily: 'IPv6', addressFrom: { address: 'fd00::1' } }] },
    ],
    [
      'two ports of one interface',
      {
        listeners: [
          { name: 'a', addressFrom: { interface: 'rdma0' } },
          { name: 'b', addressFrom: { interface: 'rdma0' }, port: 4421 },
        ],
      },
    ],
    ['a host on the list', { access: { hosts: [{ nqn: `nqn.2014-08.org.nvmexpress:uuid:${uuid}` }] } }],
    ['any host', { access: { policy: 'AnyHost' } }],
  ];
  it.each(accepted)('accepts %s', (_, change) => {
    expect(problems({ ...minimal, ...change })).toBe('');
  });

  const namespace = (change: object) => ({ namespaces: [{ ...minimal.namespaces[0], ...change }] });
  const file = (path: string) => namespace({ backend: { file: { path, size: '1Gi' } } });
  const size = (text: string) => namespace({ backend: { memory: { size: text } } });
  const refused: [string, object, string][] = [
    ['an unknown field', { listener: [] }, 'spec: unknown field listener'],
    ['a field of a wrong type', { paused: 'yes' }, 'spec.paused: must be of type boolean, not "yes"'],
    ['a missing listener list', { listeners: undefined }, 'spec.listeners: is required and missing'],
    ['an empty listener list', { listeners: [] }, 'spec.listeners: must be at least 1 items'],
    ['an NQN without a name', { nqn: 'nqn.2026-11.dev.weir' }, 'spec.nqn: must look like nqn.'],
    ['the discovery NQN', { nqn: 'nqn.2014-08.org.nvmexpress.discovery' }, 'spec.nqn: must look like nqn.'],
    [
      'an NQN beyond 223 characters',
      { nqn: `nqn.2026-11.dev.weir:${'x'.repeat(203)}` },
      'spec.nqn: must be at most 223',
    ],
    [
      'two address sources',
      { listeners: [{ name: 'a', addressFrom: { cidr: '10.0.0.0/8', interface: 'e0' } }] },
      'spec.listeners[0].addressFrom: set exactly one of address',
    ],
    [
      'a host name as address',
      { listeners: [{ name: 'a', addressFrom: { address: 'node-a' } }] },
      'spec.listeners[0].addressFrom.address: must be an IPv4 or IPv6 address',
    ],
    [
      'a network with a wrong prefix',
      { listeners: [{ name: 'a', addressFrom: { cidr: '10.9.0.0/64' } }] },
      'spec.listeners[0].addressFrom.cidr: must be a network',
    ],
    [
      'an IPv6 address called IPv4',
      { listeners: [{ ...listener, addressFrom: { address: 'fd00::1' } }] },
      'spec.listeners[0]: address and addressFamily disagree',
    ],
    ['a port of 0', { listeners: [{ ...listener, port: 0 }] }, 'spec.listeners[0].port: must be at least 1'],
    [
      'two listeners of one name',
      { listeners: [listener, { ...listener, port: 4421 }] },
      'spec.listeners[1].name: duplicate of item 0',
    ],
    [
      'two listeners on one address and port',
      { listeners: [listener, { ...listener, name: 'b' }] },
      'spec.listeners: two listeners have the same address and port',
    ],
    [
      'a namespace without a backend',
      namespace({ backend: {} }),
      'spec.namespaces[0].backend: set exactly one of',
    ],
    [
      'two namespaces of one id',
      { namespaces: [minimal.namespaces[0], minimal.namespaces[0]] },
      'spec.namespaces[1].nsid: duplicate of item 0',
    ],
    [
      'one UUID twice',
      { namespaces: [1, 2].map((nsid) => ({ nsid, uuid, backend: { memory: { size: '1Gi' } } })) },
      `spec.namespaces: uuid ${uuid} is used twice`,
    ],
    [
      'a UUID in upper case',
      namespace({ uuid: uuid.toUpperCase() }),
      'spec.namespaces[0].uuid: must be a UUID',
    ],
    [
      'a UUID with scope PerNode',
      { scope: 'PerNode', ...namespace({ uuid }) },
      'spec.namespaces: with scope PerNode',
    ],
    ['a size of 0', size('0'), 'must be more than 0 and a multiple of 4Ki'],
    ['a size that is no multiple of 4Ki', size('1000'), 'must be more than 0 and a multiple of 4Ki'],
    ['a size with a fraction', size('1.5Gi'), 'without a fraction'],
    ['a size that is no quantity', size('lots'), 'must be a size in bytes as a Kubernetes quantity'],
    ['a relative file', file('a.img'), 'must be an absolute path'],
    ['a file that climbs out', file('/var/lib/weir/../../etc/shadow'), 'must be an absolute path'],
    [
      'a block device outside /dev',
      namespace({ backend: { blockDevice: { path: '/etc/passwd' } } }),
      'must be a path below /dev',
    ],
    [
      'hosts beside AnyHost',
      { access: { policy: 'AnyHost', hosts: [{ nqn: 'nqn.2026-11.a:b' }] } },
      'spec.access: with policy AnyHost',
    ],
    [
      'an I/O size that is no power of two',
      { queues: { maxIOSizeBytes: 100000 } },
      'spec.queues.maxIOSizeBytes: must be a power of two',
    ],
    [
      'an in-capsule size that is no multiple of 16',
      { queues: { inCapsuleDataSizeBytes: 100 } },
      'must be a multiple of 16',
    ],
    [
      'an unknown poll mode',
      { polling: { mode: 'Sometimes' } },
      'spec.polling.mode: must be one of Busy, Adaptive, Event',
    ],
  ];
  it.each(refused)('refuses %s, naming the field and the way out', (_, change, message) => {
    expect(problems({ ...minimal, ...change })).toContain(message);
  });

  it('names a field once and counts what it does not list', () => {
    const listeners = Array.from({ length: 12 }, (_, index) => ({
      ...listener,
      name: `l${index}`,
      port: 70000 + index,
    }));
    expect(problems({ listeners })).toContain('… and 4 more');
  });
});
