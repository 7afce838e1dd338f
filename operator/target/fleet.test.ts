import { describe, expect, it } from 'vitest';
import type { Cache } from '../kubernetes/cache.ts';
import { objectKey } from '../kubernetes/object.ts';
import { sampleNode, sampleTarget } from '../testing/samples.ts';
import { type ClusterNode, type DataplaneDaemonSet, parsePod } from './cluster-objects.ts';
import { Fleet } from './fleet.ts';
import type { StoredTarget } from './nvmeof-target.ts';

/** A cache that a test fills, and that counts how often all of it is looked at. */
class TestCache<T extends StoredTarget | ClusterNode | DataplaneDaemonSet> implements Cache<T> {
  readonly objects = new Map<string, T>();
  sweeps = 0;

  get(key: string): T | undefined {
    return this.objects.get(key);
  }

  values(): MapIterator<T> {
    this.sweeps += 1;
    return this.objects.values();
  }

  inGroup(): T[] {
    return [];
  }
}

/** A fleet that is told of what its caches show, as the controller tells it. */
class TestFleet {
  readonly targets = new TestCache<StoredTarget>();
  readonly nodes = new TestCache<ClusterNode>();
  readonly fleet = new Fleet({
    targets: this.targets,
    nodes: this.nodes,
    daemonSets: new TestCache<DataplaneDaemonSet>(),
  });

  put(target: StoredTarget): StoredTarget {
    const previous = this.targets.get(objectKey(target));
    this.targets.objects.set(objectKey(target), target);
    this.fleet.targetChanged(target, previous);
    return target;
  }

  drop(target: StoredTarget): void {
    this.targets.objects.delete(objectKey(target));
    this.fleet.targetChanged(undefined, target);
  }

  putNode(node: ClusterNode): string[] {
    const previous = this.nodes.get(node.metadata.name);
    this.nodes.objects.set(node.metadata.name, node);
    return this.fleet.nodeChanged(node, previous);
  }

  dropNode(node: ClusterNode): string[] {
    this.nodes.objects.delete(node.metadata.name);
    return this.fleet.nodeChanged(undefined, node);
  }

  nodesOf(target: StoredTarget): string[] {
    return [...this.fleet.nodesOf(target, this.fleet.specOf(target))];
  }

  older(target: StoredTarget): string[] {
    return this.fleet.olderThan(target).map(({ key }) => key);
  }
}

const inRack = (name: string, rack: string, second = 0, change: object = {}) =>
  sampleTarget(
    name,
    { nodeSelector: { rack }, nqn: `nqn.2026-11.dev.weir:${name}`, ...change },
    { creationTimestamp: `2026-11-23T08:00:0${second}Z` },
  );

const podWithPort = (target: string, nodeName: string, hostPort: number, metadata = {}, phase = 'Running') =>
  parsePod({
    metadata: { name: `weir-target-${target}-x`, namespace: 'storage', ...metadata },
    spec: { nodeName, containers: [{ ports: [{ containerPort: hostPort, hostPort }] }] },
    status: { phase },
  });

describe('the port for metrics of a target', () => {
  const range = { first: 9810, last: 9811 };

  it('is its own among those on the host network; off it, all have the first', () => {
    const all = new TestFleet();
    all.putNode(sampleNode('node-a', { rack: 'a' }));
    const portOf = (target: StoredTarget) => all.fleet.assignPort(target, all.fleet.specOf(target), range);
    const offHost = { network: { mode: 'Pod' } };
    const targets = [{}, offHost, offHost, {}].map((change, index) =>
      all.put(inRack(`t${index}`, 'a', index, change)),
    );
    expect(targets.map(portOf)).toEqual([9810, 9810, 9810, 9811]);
    const { metadata, ...rest } = inRack('t0', 'a', 0, offHost);
    const moved = all.put({ ...rest, metadata: { ...metadata, generation: 2 } } as StoredTarget);
    expect(portOf(moved)).toBe(9810);
    expect(portOf(all.put(inRack('t4', 'a', 4)))).toBe(9810);
  });

  it('goes to no other while a pod of one that left the host network has it', () => {
    const all = new TestFleet();
    for (const node of ['node-a', 'node-b']) all.putNode(sampleNode(node, { rack: node }));
    const portOf = (target: StoredTarget) => all.fleet.assignPort(target, all.fleet.specOf(target), range);
    const left = all.put(inRack('left', 'node-a', 0));
    expect(portOf(left)).toBe(9810);
    const pod = podWithPort('left', 'node-a', 9810);
    expect(all.fleet.podChanged('storage/left', pod, undefined)).toEqual([]);
    const { metadata, ...rest } = inRack('left', 'node-a', 0, { network: { mode: 'Pod' } });
    portOf(all.put({ ...rest, metadata: { ...metadata, generation: 2 } } as StoredTarget));
    expect(portOf(all.put(inRack('elsewhere', 'node-b', 1)))).toBe(9810);
    expect(portOf(all.put(inRack('other', 'node-a', 1)))).toBe(9811);
    const waiting = all.put(inRack('waiting', 'node-a', 2));
    expect(portOf(waiting)).toBeUndefined();
    // On its way out it has its port still.
    const leaving = podWithPort('left', 'node-a', 9810, { deletionTimestamp: '2026-11-23T08:10:00Z' });
    expect(all.fleet.podChanged('storage/left', leaving, pod)).toEqual([]);
    expect(portOf(waiting)).toBeUndefined();
    // Nobody but the pod's end tells a target that waits for a port.
    expect(all.fleet.podChanged('storage/left', undefined, leaving)).toEqual(['storage/waiting']);
    expect(portOf(waiting)).toBe(9810);
    expect(all.fleet.podChanged('storage/left', undefined, pod)).toEqual([]);
  });

  it('goes to no other while a pod has it on a node that its target does not select any more', () => {
    const all = new TestFleet();
    all.putNode(sampleNode('node-a', { rack: 'a' }));
    const portOf = (target: StoredTarget) => all.fleet.assignPort(target, all.fleet.specOf(target), range);
    all.put(inRack('moved', 'b', 0));
    all.fleet.podChanged('storage/moved', podWithPort('moved', 'node-a', 9810), undefined);
    expect(portOf(all.put(inRack('other', 'a', 1)))).toBe(9811);
    const ended = podWithPort('moved', 'node-a', 9810, {}, 'Failed');
    all.fleet.podChanged('storage/moved', ended, podWithPort('moved', 'node-a', 9810));
    expect(portOf(all.put(inRack('next', 'a', 2)))).toBe(9810);
  });

  it('stays with a target whose own pods have it', () => {
    const all = new TestFleet();
    all.putNode(sampleNode('node-a', { rack: 'a' }));
    const own = all.put(inRack('own', 'a', 0));
    all.fleet.podChanged('storage/own', podWithPort('own', 'node-a', 9810), undefined);
    expect(all.fleet.assignPort(own, all.fleet.specOf(own), range)).toBe(9810);
  });
});

describe('the nodes of a target', () => {
  it('follow nodes that come, change their labels and go, in order', () => {
    const all = new TestFleet();
    const target = all.put(inRack('fast', 'a'));
    expect(all.putNode(sampleNode('n2', { rack: 'a' }))).toEqual(['storage/fast']);
    all.putNode(sampleNode('n1', { rack: 'a' }));
    expect(all.putNode(sampleNode('n3', { rack: 'b' }))).toEqual([]);
    expect(all.nodesOf(target)).toEqual(['n1', 'n2']);
    expect(all.putNode(sampleNode('n2', { rack: 'b' }))).toEqual(['storage/fast']);
    expect(all.dropNode(sampleNode('n1', { rack: 'a' }))).toEqual(['storage/fast']);
    expect(all.nodesOf(target)).toEqual([]);
  });

  it('matter to the target as long as a pod may stay on them', () => {
    const all = new TestFleet();
    all.put(inRack('fast', 'a'));
    const taint = (value: string) => [{ key: 'maintenance', effect: 'NoSchedule', value }];
    all.putNode(sampleNode('n1', { rack: 'a' }, taint('planned')));
    expect(all.putNode(sampleNode('n1', { rack: 'a' }, taint('begun')))).toEqual(['storage/fast']);
  });

  it('are those of an edited target at once', () => {
    const all = new TestFleet();
    all.putNode(sampleNode('n1', { rack: 'a' }));
    all.putNode(sampleNode('n2', { rack: 'b' }));
    expect(all.nodesOf(all.put(inRack('fast', 'a')))).toEqual(['n1']);
    const edited = { ...inRack('fast', 'b'), metadata: { ...inRack('fast', 'b').metadata, generation: 2 } };
    expect(all.nodesOf(all.put(edited))).toEqual(['n2']);
  });
});

describe('the targets that come before another', () => {
  it('are the older ones that share a node or an NQN, the oldest first', () => {
    const all = new TestFleet();
    all.putNode(sampleNode('n1', { rack: 'a' }));
    all.putNode(sampleNode('n2', { rack: 'b' }));
    const own = all.put(inRack('own', 'a', 5));
    all.put(inRack('near', 'a', 3));
    all.put(inRack('nearest', 'a', 2));
    all.put(inRack('younger', 'a', 7));
    all.put(inRack('far', 'b', 1));
    all.put(inRack('namesake', 'b', 4, { nqn: 'nqn.2026-11.dev.weir:own' }));
    expect(all.older(own)).toEqual(['storage/nearest', 'storage/near', 'storage/namesake']);
  });

  it('include one that took the NQN of a node of a target with scope PerNode', () => {
    const all = new TestFleet();
    all.putNode(sampleNode('n1', { rack: 'a' }));
    const namespaces = [{ nsid: 1, backend: { memory: { size: '8Mi' } } }];
    const own = all.put(inRack('own', 'a', 5, { scope: 'PerNode', namespaces }));
    const spec = all.fleet.specOf(own);
    all.put(inRack('taker', 'b', 1, { nqn: `${spec.nqn}:n1`, namespaces }));
    expect(all.older(own)).toEqual(['storage/taker']);
  });

  it('do not include those that went or cannot be read', () => {
    const all = new TestFleet();
    all.putNode(sampleNode('n1', { rack: 'a' }));
    const own = all.put(inRack('own', 'a', 5));
    all.drop(all.put(inRack('gone', 'a', 1)));
    all.put(inRack('odd', 'a', 1, { listeners: 'none' }));
    expect(all.older(own)).toEqual([]);
  });

  it('are found without looking at every target or node', () => {
    const all = new TestFleet();
    for (let index = 0; index < 50; index += 1) all.putNode(sampleNode(`n${index}`, { rack: `${index}` }));
    const targets = Array.from({ length: 50 }, (_, index) => all.put(inRack(`t${index}`, `${index}`)));
    const before = [all.targets.sweeps, all.nodes.sweeps];
    for (const target of targets) {
      expect(all.older(target)).toEqual([]);
      all.fleet.assignPort(target, all.fleet.specOf(target), { first: 9810, last: 9899 });
    }
    expect([all.targets.sweeps, all.nodes.sweeps]).toEqual(before);
  });
});

describe('targets that share a claim', () => {
  const claimed = (name: string, rack: string, second: number, metadata: object = {}) =>
    sampleTarget(
      name,
      {
        nqn: `nqn.2026-11.dev.weir:${name}`,
        nodeSelector: { rack },
        namespaces: [{ nsid: 1, backend: { persistentVolumeClaim: { claimName: 'data' } } }],
      },
      { creationTimestamp: `2026-11-23T08:00:0${second}Z`, ...metadata },
    );

  it('see each other on whichever nodes: what both write is one volume', () => {
    const all = new TestFleet();
    all.putNode(sampleNode('node-a', { rack: 'left' }));
    all.putNode(sampleNode('node-b', { rack: 'right' }));
    all.put(claimed('old', 'left', 0));
    all.put(claimed('elsewhere', 'left', 0, { namespace: 'other' }));
    expect(all.older(all.put(claimed('new', 'right', 1)))).toEqual(['storage/old']);
  });
});
