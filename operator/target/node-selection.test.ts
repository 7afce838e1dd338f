import { describe, expect, it } from 'vitest';
import { sampleNode, sampleSpec } from '../testing/samples.ts';
import { isSelected } from './node-selection.ts';

const affinity = (matchExpressions: object[], matchFields: object[] = []) => ({
  affinity: {
    nodeAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [{ matchExpressions, matchFields }],
      },
    },
  },
});
const node = sampleNode('node-a', { zone: 'left', gen: '3' });

describe('a target runs on a node', () => {
  it.each([
    ['that carries every label', { nodeSelector: { zone: 'left' } }],
    ['that an expression takes in', affinity([{ key: 'zone', operator: 'In', values: ['left', 'right'] }])],
    ['that has the label', affinity([{ key: 'zone', operator: 'Exists' }])],
    ['that lacks the label', affinity([{ key: 'old', operator: 'DoesNotExist' }])],
    ['that is not excluded', affinity([{ key: 'zone', operator: 'NotIn', values: ['right'] }])],
    ['whose number is greater', affinity([{ key: 'gen', operator: 'Gt', values: ['2'] }])],
    ['that is named', affinity([], [{ key: 'metadata.name', operator: 'In', values: ['node-a'] }])],
  ])('%s', (_, change) => {
    expect(isSelected(node, sampleSpec(change))).toBe(true);
  });

  it.each([
    ['that lacks a label', { nodeSelector: { zone: 'left', disk: 'fast' } }],
    ['of another value', affinity([{ key: 'zone', operator: 'In', values: ['right'] }])],
    ['whose number is not less', affinity([{ key: 'gen', operator: 'Lt', values: ['3'] }])],
    ['by an empty term', affinity([])],
  ])('but not %s', (_, change) => {
    expect(isSelected(node, sampleSpec(change))).toBe(false);
  });

  const tainted = sampleNode('node-b', {}, [{ key: 'storage', effect: 'NoSchedule', value: 'only' }]);
  it.each([
    [[], false],
    [[{ key: 'storage', operator: 'Exists' }], true],
    [[{ key: 'storage', value: 'only', effect: 'NoSchedule' }], true],
    [[{ key: 'storage', value: 'other' }], false],
    [[{ key: 'storage', value: 'only', effect: 'NoExecute' }], false],
    [[{ operator: 'Exists' }], true],
  ])('with a taint as %j tolerates', (tolerations, expected) => {
    expect(isSelected(tainted, sampleSpec({ tolerations }))).toBe(expected);
  });

  it('that was tainted against scheduling after its pod came', () => {
    expect(isSelected(tainted, sampleSpec(), true)).toBe(true);
    const evicting = sampleNode('node-b', {}, [{ key: 'storage', effect: 'NoExecute' }]);
    expect(isSelected(evicting, sampleSpec(), true)).toBe(false);
  });

  it('that is cordoned, not ready or under pressure: as every DaemonSet', () => {
    const troubled = sampleNode('node-c', {}, [
      { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' },
      { key: 'node.kubernetes.io/not-ready', effect: 'NoExecute' },
      { key: 'node.kubernetes.io/unreachable', effect: 'NoSchedule' },
      { key: 'any', effect: 'PreferNoSchedule' },
    ]);
    expect(isSelected(troubled, sampleSpec())).toBe(true);
  });
});
