import { describe, expect, it } from 'vitest';
import { niceStep } from './svg.ts';

describe('niceStep', () => {
  it.each([
    [100, 4, 50],
    [80, 4, 20],
    [7, 4, 2],
    [0.9, 4, 0.5],
  ])('divides %d into at most %d parts by %d', (span, parts, step) => {
    expect(niceStep(span, parts)).toBeCloseTo(step, 9);
  });
});
