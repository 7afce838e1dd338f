import { describe, expect, it } from 'vitest';
import { fitSlope } from './line-fit.ts';

describe('fitSlope', () => {
  it('finds the slope of a line, and is sure of it', () => {
    expect(fitSlope([5, 7, 9, 11, 13])).toEqual({ perStep: 2, halfWidth: 0 });
  });

  it('is unsure of a slope that noise explains', () => {
    const fit = fitSlope([10, 14, 9, 13, 10, 14, 9, 13]);
    expect(Math.abs(fit?.perStep ?? Number.NaN)).toBeLessThan(fit?.halfWidth ?? 0);
  });

  it('has the interval of the textbook', () => {
    // x = 0..4, y = 1, 2, 1, 3, 3: slope 0.5, standard error 0.2082, t(3) = 3.182.
    const fit = fitSlope([1, 2, 1, 3, 3]);
    expect(fit?.perStep).toBeCloseTo(0.5, 6);
    expect(fit?.halfWidth).toBeCloseTo(3.182 * Math.sqrt(1.5 / 3 / 10), 6);
  });

  it('says nothing about two values', () => {
    expect(fitSlope([1, 2])).toBeUndefined();
  });
});
