import { describe, expect, it } from 'vitest';
import { countRestarts } from './main-path.ts';

describe('countRestarts', () => {
  it('counts restarts since the start only', () => {
    expect(countRestarts([{ uid: 'a', restarts: 2 }], [{ uid: 'a', restarts: 3 }])).toBe(1);
  });

  it('counts a replaced pod as a restart', () => {
    expect(countRestarts([{ uid: 'a', restarts: 0 }], [{ uid: 'b', restarts: 0 }])).toBe(1);
  });

  it('is 0 when nothing happened', () => {
    expect(countRestarts([{ uid: 'a', restarts: 1 }], [{ uid: 'a', restarts: 1 }])).toBe(0);
  });
});
