import { describe, expect, it } from 'vitest';
import type { Cache } from '../kubernetes/cache.ts';
import { type KubernetesObject, objectKey } from '../kubernetes/object.ts';
import { sampleNode, samplePod, sampleSpec } from '../testing/samples.ts';
import type { DataplanePod } from './cluster-objects.ts';
import type { OlderTarget } from './judge.ts';
import { judgeClaims } from './judge-claims.ts';
import { Refusal } from './refusal.ts';
import { parseClaim, parseVolume } from './storage-objects.ts';

function cacheOf<T extends KubernetesObject>(objects: readonly T[]): Cache<T> {
  const byKey = new Map(objects.map((object) => [objectKey(object), object]));
  return { get: (key) => byKey.get(key), values: () => byKey.values(), inGroup: () => [] };
}

const claim = (spec: object = {}, status: object = {}, metadata: object = {}) =>
  parseClaim({
    metadata: { name: 'data', namespace: 'storage', uid: 'uid-data', ...metadata },
    spec: { accessModes: ['ReadWriteOnce'], volumeMode: 'Block', volumeName: 'pv-data', ...spec },
    status: { phase: 'Bound', capacity: { storage: '10Gi' }, ...status },
  });
const pending = { phase: 'Pending', capacity: undefined };

const onlyOn = (node: string) =>
  parseVolume({
    metadata: { name: 'pv-data' },
    spec: {
      claimRef: { namespace: 'storage', name: 'data' },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }] },
          ],
        },
      },
    },
  });

const file = (size = '1Gi', name?: string) => ({ file: { size, ...(name === undefined ? {} : { name }) } });
const namespaces = (...uses: { readOnly?: boolean; file?: object; claimName?: string }[]) =>
  uses.map(({ readOnly = false, claimName = 'data', ...rest }, index) => ({
    nsid: index + 1,
    readOnly,
    backend: { persistentVolumeClaim: { claimName, ...rest } },
  }));
const older = (uses: object[], nodes = ['node-a'], key = 'storage/old'): OlderTarget => ({
  key,
  nqn: 'nqn.2026-11.a:b',
  spec: sampleSpec({ namespaces: uses }),
  nodes: new Set(nodes),
});
const withClaims = (pod: DataplanePod, ...claimNames: string[]): DataplanePod => ({
  ...pod,
  spec: { ...pod.spec, claimNames },
});

interface Situation {
  readonly uses?: object[];
  readonly nodes?: string[];
  readonly claims?: ReturnType<typeof claim>[];
  readonly volumes?: ReturnType<typeof onlyOn>[];
  readonly pods?: DataplanePod[];
  readonly others?: OlderTarget[];
}

function judge({ uses = namespaces({}), nodes = ['node-a'], claims = [claim()], ...rest }: Situation) {
  const names = ['node-a', 'node-b'];
  return judgeClaims(
    {
      namespace: 'storage',
      spec: sampleSpec({ namespaces: uses }),
      nodes: new Set(nodes),
      pods: rest.pods ?? [],
    },
    rest.others ?? [],
    {
      claims: cacheOf(claims),
      volumes: cacheOf(rest.volumes ?? []),
      nodes: cacheOf(names.map((name) => sampleNode(name, { 'kubernetes.io/hostname': name }))),
    },
  );
}

const two = ['node-a', 'node-b'];
const filesystem = (change: object = {}) => claim({ volumeMode: 'Filesystem', ...change });
const shared = { accessModes: ['ReadWriteMany'] };
const readable = { accessModes: ['ReadOnlyMany'] };

describe('a target with claims', () => {
  it.each<[string, Situation]>([
    ['with a device on one node', {}],
    ['with a device for one pod', { claims: [claim({ accessModes: ['ReadWriteOncePod'] })] }],
    ['with a device that two nodes share', { nodes: two, claims: [claim(shared)] }],
    [
      'that reads on two nodes what many may read',
      { uses: namespaces({ readOnly: true }), nodes: two, claims: [claim(readable)] },
    ],
    ['with a file', { uses: namespaces(file()), claims: [filesystem()] }],
    ['with two files', { uses: namespaces(file('5Gi', 'a'), file('5Gi', 'b')), claims: [filesystem()] }],
    [
      'with one file for readers and for writers',
      { uses: namespaces(file('9Gi'), { ...file('9Gi'), readOnly: true }), claims: [filesystem()] },
    ],
    [
      'that reads a file on two nodes',
      { uses: namespaces({ ...file(), readOnly: true }), nodes: two, claims: [filesystem(shared)] },
    ],
    ['on the node of its volume', { volumes: [onlyOn('node-a')] }],
    ['whose first pods are what its claim waits for', { claims: [claim({}, pending)] }],
    [
      'whose pods wait with its claim',
      { claims: [claim({}, pending)], pods: [withClaims(samplePod('node-a'), 'data')] },
    ],
    [
      'that writes to one file on a volume, an older one on another node to another',
      {
        uses: namespaces(file()),
        claims: [filesystem(shared)],
        others: [older(namespaces(file('1Gi', 'other')), ['node-b'])],
      },
    ],
    [
      'that reads a device to which an older one writes',
      { uses: namespaces({ readOnly: true }), others: [older(namespaces({}))] },
    ],
    [
      'whose claim has the name of one in another namespace',
      { others: [older(namespaces({}), two, 'other/old'), older(namespaces({}), two, 'storage2/old')] },
    ],
  ])('%s is accepted', (_, situation) => {
    expect(() => judge(situation)).not.toThrow();
  });

  it('learns what its claims hold, and which have no volume yet', () => {
    const uses = namespaces({}, { claimName: 'late' });
    const late = claim({}, pending, { name: 'late' });
    expect(judge({ uses, claims: [claim(), late] })).toEqual({
      capacities: new Map([['data', 10 * 2 ** 30]]),
      unbound: ['late'],
    });
  });

  it.each<[string, Situation, string, string]>([
    [
      'a claim that is not there',
      { claims: [] },
      'ClaimNotFound',
      'there is no PersistentVolumeClaim data in namespace storage: create it',
    ],
    [
      'a claim of another namespace',
      { claims: [claim({}, {}, { namespace: 'other' })] },
      'ClaimNotFound',
      'in namespace storage',
    ],
    [
      'a claim without a volume while a pod serves that would make way',
      { claims: [claim({}, pending)], pods: [withClaims(samplePod('node-a'))] },
      'ClaimNotBound',
      'has no volume yet (phase Pending), and pod weir-target-fast-node-a would have to make way',
    ],
    ['a claim that lost its volume', { claims: [claim({}, { phase: 'Lost' })] }, 'ClaimNotBound', 'restore'],
    [
      'a claim that is being deleted',
      { claims: [claim({}, {}, { deletionTimestamp: '2026-11-23T08:00:00Z' })] },
      'ClaimNotBound',
      'is being deleted',
    ],
    [
      'a device where there is a file system',
      { claims: [filesystem()] },
      'ClaimVolumeMode',
      'set persistentVolumeClaim.file.size',
    ],
    [
      'a file where there is a device',
      { uses: namespaces(file()) },
      'ClaimVolumeMode',
      'remove persistentVolumeClaim.file',
    ],
    [
      'files beyond the claim',
      { uses: namespaces(file('6Gi', 'a'), file('5Gi', 'b')), claims: [filesystem()] },
      'ClaimTooSmall',
      'has 10737418240 bytes, its files need 11811160064: let the claim grow first',
    ],
    [
      'two nodes that write to what one may',
      { nodes: two },
      'ClaimAccessMode',
      'has accessModes ReadWriteOnce and 2 nodes use it (node-a, node-b): use a claim with ReadWriteMany',
    ],
    [
      'two nodes that read what one may',
      { uses: namespaces({ readOnly: true }), nodes: two },
      'ClaimAccessMode',
      'use a claim with ReadOnlyMany',
    ],
    [
      'an older target on another node beside it',
      { uses: namespaces({ readOnly: true }), others: [older(namespaces({}), ['node-b'])] },
      'ClaimAccessMode',
      '2 nodes use it',
    ],
    [
      'writing to what is for reading',
      { claims: [claim(readable)] },
      'ClaimAccessMode',
      'set readOnly: true',
    ],
    [
      'one file that two nodes write to',
      { uses: namespaces(file()), nodes: two, claims: [filesystem(shared)] },
      'DataNotShared',
      'use a claim with volumeMode Block',
    ],
    [
      'a node that the volume is not on',
      { volumes: [onlyOn('node-b')] },
      'ClaimOnOtherNode',
      'node node-a is selected, and the volume of PersistentVolumeClaim data (pv-data) is not to be had there',
    ],
    [
      'a claim written twice',
      { uses: namespaces({}, {}) },
      'BackendConflict',
      'namespaces 1 and 2 both write to PersistentVolumeClaim data',
    ],
    [
      'a file written twice',
      { uses: namespaces(file(), file()), claims: [filesystem()] },
      'BackendConflict',
      'both write to file namespace.img of PersistentVolumeClaim data',
    ],
    [
      'what an older target writes to on another node',
      { claims: [claim(shared)], others: [older(namespaces({}), ['node-b'])] },
      'BackendConflict',
      'so does namespace 1 of NvmeofTarget storage/old',
    ],
    [
      'a claim for one pod that an older target reads',
      {
        claims: [claim({ accessModes: ['ReadWriteOncePod'] })],
        others: [older(namespaces({ readOnly: true }))],
      },
      'BackendConflict',
      'is for one pod only (ReadWriteOncePod), and NvmeofTarget storage/old uses it',
    ],
  ])('%s is refused with the way out', (_, situation, reason, message) => {
    const error = catchRefusal(() => judge(situation));
    expect(error?.reason).toBe(reason);
    expect(error?.message).toContain(message);
  });
});

function catchRefusal(act: () => unknown): Refusal | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
}
