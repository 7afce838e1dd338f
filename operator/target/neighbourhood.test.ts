import { describe, expect, it } from 'vitest';
import { Neighbourhood } from './neighbourhood.ts';

const footprint = (nodes: string[], nqns: string[]) => ({
  nodes: new Set(nodes),
  nqns: new Set(nqns),
  claims: new Set<string>(),
});
const neighbours = (all: Neighbourhood, key: string) => [...all.of(key)].sort();

describe('the neighbours of a target', () => {
  it('share a node or an NQN with it', () => {
    const all = new Neighbourhood();
    all.set('own', footprint(['a', 'b'], ['x']));
    all.set('same-node', footprint(['b', 'c'], ['y']));
    all.set('same-name', footprint(['z'], ['x']));
    all.set('far', footprint(['c'], ['w']));
    expect(neighbours(all, 'own')).toEqual(['same-name', 'same-node']);
    expect(neighbours(all, 'far')).toEqual(['same-node']);
    expect(neighbours(all, 'unknown')).toEqual([]);
  });

  it('change with the nodes it runs on, and are nobody when it is gone', () => {
    const all = new Neighbourhood();
    all.set('own', footprint(['a'], ['x']));
    all.set('other', footprint(['b'], ['y']));
    expect(neighbours(all, 'own')).toEqual([]);
    all.set('own', footprint(['b'], ['x']));
    expect(neighbours(all, 'other')).toEqual(['own']);
    all.set('own', undefined);
    expect(neighbours(all, 'other')).toEqual([]);
    expect(neighbours(all, 'own')).toEqual([]);
  });
});
