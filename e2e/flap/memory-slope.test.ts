import { describe, expect, it } from 'vitest';
import { FLAPS_MIN, memorySlope } from './memory-slope.ts';

const FLAPS = 1000;
const flaps = (resident: (flap: number) => number, count = FLAPS): number[] =>
  Array.from({ length: count }, (_, flap) => resident(flap));
/** Garbage that is collected every seventy flaps. */
const garbage = (flap: number): number => (flap % 70) * 50;

const isLeak = (values: readonly number[]): boolean => {
  const slope = memorySlope(values);
  if (slope === undefined) throw new Error('not judged');
  return slope.kibPerFlap - slope.halfWidth > 0;
};

describe('memorySlope', () => {
  it('finds a leak of two KiB a flap under garbage that comes and goes', () => {
    expect(isLeak(flaps((flap) => 150_000 + 2 * flap + garbage(flap)))).toBe(true);
  });

  it('takes neither garbage nor the growth of a fresh process for a leak', () => {
    expect(isLeak(flaps((flap) => 150_000 + garbage(flap) - 30_000 * Math.exp(-flap / 15)))).toBe(false);
  });

  it('says which flaps it looked at', () => {
    expect(memorySlope(flaps(() => 1))).toEqual({
      kibPerFlap: 0,
      halfWidth: 0,
      warmUpFlaps: 100,
      flapsPerBlock: 50,
      blocks: 18,
    });
  });

  it('does not judge a few flaps', () => {
    expect(memorySlope(flaps(garbage, FLAPS_MIN - 1))).toBeUndefined();
  });
});
