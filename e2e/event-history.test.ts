import { describe, expect, it } from 'vitest';
import { countEvents, downsTold, transitions } from './event-history.ts';

const event = (reason: string, uid: string, count?: number) => ({
  reason,
  type: 'Warning',
  regarding: { kind: 'NvmeofTargetNode', uid },
  series: count === undefined ? null : { count },
});

describe('a history of Events', () => {
  it('counts single Events and series of one object', () => {
    const items = [
      event('LinkDown', 'a'),
      event('LinkDown', 'a', 2),
      event('LinkFlapping', 'a', 5),
      event('LinkDown', 'b'),
    ];
    const counts = countEvents({ items }, 'a');
    expect(counts.get('LinkDown')).toBe(3);
    expect(downsTold(counts)).toBe(8);
    expect(downsTold(countEvents({ items }, 'c'))).toBe(0);
  });

  it('knows transitions from repetitions', () => {
    expect(transitions(['True', 'True', 'False', 'False', 'True'])).toEqual(['True', 'False', 'True']);
  });
});
