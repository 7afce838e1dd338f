import { describe, expect, it } from 'vitest';
import { childName, labelValue, targetNodeName } from './object-names.ts';
import { derivedNqn, NQN_LENGTH_MAX } from './qualified-name.ts';
import { quantityToBytes } from './quantity.ts';
import { derivedNamespaceUuid } from './uuid.ts';

describe('names of children', () => {
  it('are readable while they fit', () => {
    expect(targetNodeName('fast', 'node-a')).toBe('fast-node-a');
    expect(childName('fast')).toBe('weir-target-fast');
  });

  it('are shortened with a hash of the whole, so that two long ones stay apart', () => {
    const node = 'n'.repeat(250);
    const one = targetNodeName('fast', `${node}-1`);
    expect(one.length).toBeLessThanOrEqual(253);
    expect(one).not.toBe(targetNodeName('fast', `${node}-2`));
    expect(labelValue(node)).toHaveLength(63);
  });

  it('end their readable part with a letter or digit', () => {
    expect(labelValue(`${'a'.repeat(51)}.${'b'.repeat(50)}`)).toMatch(/^a+-[0-9a-f]{10}$/);
  });
});

describe('derived identifiers', () => {
  it('give a namespace the same UUID in every process', () => {
    expect(derivedNamespaceUuid('nqn.2026-11.dev.weir:fast', 1)).toBe('4cb1ef5d-b672-5cb5-8e07-dc7859254df1');
    expect(derivedNamespaceUuid('nqn.2026-11.dev.weir:fast', 2)).not.toBe(
      derivedNamespaceUuid('nqn.2026-11.dev.weir:fast', 1),
    );
  });

  it('give two objects of one name different NQNs, within the length limit', () => {
    const name = 'x'.repeat(250);
    const first = derivedNqn('storage', name, 'uid-1');
    expect(first.length).toBeLessThanOrEqual(NQN_LENGTH_MAX);
    expect(first).not.toBe(derivedNqn('storage', name, 'uid-2'));
    expect(derivedNqn('storage', 'fast', 'u')).toMatch(/^nqn\.2026-11\.dev\.weir:storage\.fast:[0-9a-f]{8}$/);
  });
});

describe('quantities', () => {
  it.each([
    ['4096', 4096],
    ['1Ki', 1024],
    ['1.5Gi', 1610612736],
    ['10G', 10_000_000_000],
  ])('%s is %i bytes', (text, bytes) => {
    expect(quantityToBytes(text)).toBe(bytes);
  });

  it.each(['', '1.0000001Ki', '0.3Ki', '-1', '1e3', '1 Gi', '99999999999Pi'])(
    '%j is no number of bytes',
    (text) => {
      expect(quantityToBytes(text)).toBeUndefined();
    },
  );
});
