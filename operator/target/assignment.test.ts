import { describe, expect, it } from 'vitest';
import { assignControllerIds, SHARED_NODES_MAX } from './controller-ids.ts';
import { assignMetricsPort } from './metrics-port.ts';

const range = { first: 9810, last: 9812 };
const holder = (port: number | undefined, nodes: string[], precedes = true) => ({
  port,
  nodes: new Set(nodes),
  precedes,
});

describe('metrics ports', () => {
  it('are the lowest that no target on a common node has', () => {
    const others = [holder(9810, ['a']), holder(9811, ['b'])];
    expect(assignMetricsPort({ port: undefined, nodes: new Set(['a']) }, others, range)).toBe(9811);
    expect(assignMetricsPort({ port: undefined, nodes: new Set(['a', 'b']) }, others, range)).toBe(9812);
    expect(assignMetricsPort({ port: undefined, nodes: new Set(['c']) }, others, range)).toBe(9810);
  });

  it('stay, unless an older target comes to a common node with the same one', () => {
    const own = { port: 9811, nodes: new Set(['a']) };
    expect(assignMetricsPort(own, [holder(9811, ['b'])], range)).toBe(9811);
    expect(assignMetricsPort(own, [holder(9811, ['a'], false)], range)).toBe(9811);
    expect(assignMetricsPort(own, [holder(9811, ['a'], true)], range)).toBe(9810);
  });

  it('move into a range that was changed, and run out', () => {
    expect(assignMetricsPort({ port: 1, nodes: new Set(['a']) }, [], range)).toBe(9810);
    const others = [9810, 9811, 9812].map((port) => holder(port, ['a']));
    expect(assignMetricsPort({ port: undefined, nodes: new Set(['a']) }, others, range)).toBeUndefined();
  });
});

describe('controller ids of a shared subsystem', () => {
  it('are disjoint between all nodes, and within what NVMe allows', () => {
    const nodes = Array.from({ length: SHARED_NODES_MAX }, (_, index) => `node-${index}`);
    const slices = [...assignControllerIds(nodes, new Map()).values()].sort((a, b) => a.first - b.first);
    slices.forEach((slice, index) => {
      expect(slice.first).toBe((slices[index - 1]?.last ?? 0) + 1);
    });
    expect(slices.at(-1)?.last).toBeLessThanOrEqual(0xffef);
    expect(() => assignControllerIds([...nodes, 'one-more'], new Map())).toThrow(RangeError);
  });

  it('stay with their node when others come and go', () => {
    const before = assignControllerIds(['a', 'b', 'c'], new Map());
    const after = assignControllerIds(['0', 'b', 'c'], before);
    expect(after.get('b')).toEqual(before.get('b'));
    expect(after.get('c')).toEqual(before.get('c'));
    expect(after.get('0')).toEqual(before.get('a'));
  });

  it('are given anew when they fit no slice', () => {
    expect(assignControllerIds(['a'], new Map([['a', { first: 5, last: 9 }]])).get('a')?.first).toBe(1);
  });
});
