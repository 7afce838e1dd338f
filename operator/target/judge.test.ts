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
  spec: sampleSpec(change),
  nodes: new Set(nodes),
});
const otherPort = { listeners: [{ name: 'old', addressFrom: { cidr: '10.9.0.0/24' }, port: 4421 }] };
const block = (path: string) => ({ namespaces: [{ nsid: 1, backend: { blockDevice: { path } } }] });

describe('a target', () => {
  it.each<[string, object, string[], OlderTarget[]]>([
    ['on one node', {}, ['node-a'], []],
    ['on no node', {}, [], []],
    ['with scope PerNode on many nodes', { scope: 'PerNode' }, ['a', 'b', 'c'], []],
    ['with a device that many nodes share', block('/dev/disk/by-id/x'), ['a', 'b'], []],
    ['beside another on another port', {}, ['node-a'], [older(otherPort)]],
    [
      'beside another with the same port on other nodes',
      {},
      ['node-a'],
      [older({}, 'nqn.2026-11.a:b', ['node-b'])],
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
