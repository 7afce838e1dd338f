import { describe, expect, it } from 'vitest';
import { SAMPLE_SETTINGS, sampleSpec } from '../testing/samples.ts';
import { judgeTarget, type OlderTarget } from './judge.ts';
import { Refusal } from './refusal.ts';

const nqn = 'nqn.2026-11.dev.weir:fast';

function verdict(change: object, nodes: string[] = ['node-a'], older: OlderTarget[] = []): string {
  try {
    judgeTarget(sampleSpec(change), nqn, new Set(nodes), older, SAMPLE_SETTINGS);
    return 'Accepted';
  } catch (error) {
    if (error instanceof Refusal) return `${error.reason}: ${error.message}`;
    throw error;
  }
}

const older = (change: object, otherNqn = 'nqn.2026-11.a:b', nodes = ['node-a']): OlderTarget => ({
  key: 'storage/old',
  nqn: otherNqn,
  spec: sampleSpec({
    namespaces: [{ nsid: 1, backend: { file: { path: '/var/lib/weir/old.img', size: '1Gi' } } }],
    ...change,
  }),
  nodes: new Set(nodes),
});
const podNetwork = { network: { mode: 'Pod' } };
const otherPort = { listeners: [{ name: 'old', addressFrom: { cidr: '10.9.0.0/24' }, port: 4421 }] };
const block = (path: string, readOnly = false) => ({
  namespaces: [{ nsid: 1, readOnly, backend: { blockDevice: { path } } }],
});
const at = (addressFrom: object, addressFamily = 'IPv4') => ({
  listeners: [{ name: 'old', addressFrom, addressFamily }],
});

describe('a target', () => {
  it.each<[string, object, string[], OlderTarget[]]>([
    ['on one node', {}, ['node-a'], []],
    ['on no node', {}, [], []],
    ['with scope PerNode on many nodes', { scope: 'PerNode' }, ['a', 'b', 'c'], []],
    ['with a device that many nodes share', block('/dev/disk/by-id/x'), ['a', 'b'], []],
    ['beside another on another port', {}, ['node-a'], [older(otherPort)]],
    ['on the pod network, beside one on the host network', podNetwork, ['node-a'], [older({})]],
    ['on the host network, beside one on the pod network', {}, ['node-a'], [older(podNetwork)]],
    ['on the pod network, beside another', podNetwork, ['node-a'], [older(podNetwork)]],
    [
      'beside another with the same port on other nodes',
      {},
      ['node-a'],
      [older({}, 'nqn.2026-11.a:b', ['node-b'])],
    ],
    [
      'beside another in another network on the same port',
      {},
      ['node-a'],
      [older(at({ cidr: '10.8.0.0/16' })), older(at({ address: '10.9.1.1' }))],
    ],
    [
      'that reads a device to which an older one writes',
      { ...block('/dev/sda', true) },
      ['node-a'],
      [older({ ...otherPort, ...block('/dev/sda') })],
    ],
    [
      'with a device to which an older one writes on another node',
      block('/dev/sda'),
      ['node-a'],
      [older({ ...otherPort, ...block('/dev/sda') }, 'nqn.2026-11.a:b', ['node-b'])],
    ],
    ['with a memory limit that suffices', { resources: { limits: { memory: '1Gi' } } }, ['node-a'], []],
  ])('%s is accepted', (_, change, nodes, others) => {
    expect(verdict(change, nodes, others)).toBe('Accepted');
  });

  it.each<[string, object, string[], OlderTarget[], string]>([
    [
      'local data on two nodes',
      {},
      ['a', 'b'],
      [],
      'DataNotShared: namespace 1 is a file backend and 2 nodes',
    ],
    [
      'a device to which an older one writes, from another network',
      { ...podNetwork, ...block('/dev/sda') },
      ['node-a'],
      [older(block('/dev/sda'))],
      'BackendConflict: namespace 1 writes to /dev/sda',
    ],
    [
      'an address in the network of an older one',
      at({ address: '10.9.0.7' }),
      ['a'],
      [older({}, 'nqn.2026-11.a:b', ['a'])],
      'ListenerConflict: listener old has the address and port 4420 of listener storage of NvmeofTarget storage/old on node a',
    ],
    [
      'a network around that of an older one',
      at({ cidr: '10.0.0.0/8' }),
      ['a'],
      [older({}, 'nqn.2026-11.a:b', ['a'])],
      'ListenerConflict: listener old has',
    ],
    [
      'the address of an older one, written otherwise',
      at({ address: 'fd00:0::1' }, 'IPv6'),
      ['a'],
      [older(at({ address: 'fd00::1' }, 'IPv6'), 'nqn.2026-11.a:b', ['a'])],
      'ListenerConflict: listener old has',
    ],
    [
      'two listeners that overlap',
      {
        listeners: [
          { name: 'a', addressFrom: { cidr: '10.9.0.0/24' } },
          { name: 'b', addressFrom: { address: '10.9.0.1' } },
        ],
      },
      ['a'],
      [],
      'ListenerConflict: listeners a and b have the same address and port 4420',
    ],
    [
      'a device to which an older one writes',
      block('/dev/sda'),
      ['a'],
      [older({ ...otherPort, ...block('/dev/sda') }, 'nqn.2026-11.a:b', ['a', 'b'])],
      'BackendConflict: namespace 1 writes to /dev/sda, and so does namespace 1 of NvmeofTarget storage/old on node a',
    ],
    [
      'a file to which an older one writes',
      {},
      ['a'],
      [
        older(
          {
            ...otherPort,
            namespaces: [{ nsid: 3, backend: { file: { path: '/var/lib/weir/fast.img', size: '1Gi' } } }],
          },
          'nqn.2026-11.a:b',
          ['a'],
        ),
      ],
      'BackendConflict: namespace 1 writes to /var/lib/weir/fast.img, and so does namespace 3',
    ],
    [
      'one device twice',
      {
        namespaces: [1, 2].map((nsid) => ({ nsid, backend: { blockDevice: { path: '/dev/sda' } } })),
      },
      ['a'],
      [],
      'BackendConflict: namespaces 1 and 2 both write to /dev/sda',
    ],
    [
      'the NQN that an older one with scope PerNode has on a node',
      {},
      ['a'],
      [older({ ...otherPort, scope: 'PerNode' }, 'nqn.2026-11.dev.weir', ['fast'])],
      'NQNInUse',
    ],
    [
      'the NQN of an older one',
      {},
      ['a'],
      [older(otherPort, nqn)],
      'NQNInUse: NvmeofTarget storage/old has the NQN',
    ],
    [
      'the address and port of an older one',
      {},
      ['node-a'],
      [older({})],
      'ListenerConflict: listener storage has',
    ],
    [
      'a memory limit below its backends',
      { resources: { limits: { memory: '256Mi' } } },
      ['a'],
      [],
      'MemoryLimitTooLow: resources.limits.memory is 256Mi, the target needs 416Mi',
    ],
    [
      'a file where none may be',
      { namespaces: [{ nsid: 1, backend: { file: { path: '/etc/a', size: '1Gi' } } }] },
      ['a'],
      [],
      'PathNotAllowed: namespace 1: file /etc/a lies outside',
    ],
    [
      'a file that only begins like an allowed directory',
      { namespaces: [{ nsid: 1, backend: { file: { path: '/var/lib/weir2/a', size: '1Gi' } } }] },
      ['a'],
      [],
      'PathNotAllowed',
    ],
    [
      'an NQN too long for its nodes',
      { scope: 'PerNode' },
      ['n'.repeat(250)],
      [],
      'NQNTooLong: with scope PerNode',
    ],
  ])('with %s is refused with the way out', (_, change, nodes, others, message) => {
    expect(verdict(change, nodes, others)).toContain(message);
  });
});
