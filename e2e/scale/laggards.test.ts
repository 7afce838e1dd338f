import { describe, expect, it } from 'vitest';
import { sampleCondition, sampleTarget } from '../../operator/testing/samples.ts';
import { laggards } from './laggards.ts';

const ready = { ...sampleTarget('ready'), status: { conditions: [sampleCondition('Ready', 'True')] } };
const waiting = {
  ...sampleTarget('waiting'),
  status: { conditions: [{ ...sampleCondition('Ready', 'False'), reason: 'NoPod', message: 'on node-7' }] },
};

describe('the targets that the others wait for', () => {
  it('are named with what they say themselves', () => {
    expect(laggards([ready, waiting, sampleTarget('new')])).toBe(
      'waiting: NoPod: on node-7; new: no status yet',
    );
  });

  it('are the first three of ten at most; more are work under way', () => {
    const ten = Array.from({ length: 10 }, (_, index) => sampleTarget(`t${index}`));
    expect(laggards(ten)).toBe('t0: no status yet; t1: no status yet; t2: no status yet');
    expect(laggards([...ten, sampleTarget('t10')])).toBe('');
  });

  it('are none when all are ready', () => {
    expect(laggards([ready])).toBe('');
  });
});
