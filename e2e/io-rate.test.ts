import { describe, expect, it } from 'vitest';
import { finishedPerBin, longestStall, stallAfter } from './io-rate.ts';

const at = (atMs: number, completed: number) => ({ atMs, completed });

describe('stallAfter', () => {
  it('is the time from link-up to the first finished I/O', () => {
    expect(stallAfter([at(0, 10), at(100, 10), at(200, 10), at(300, 11)], 100)).toBe(200);
  });

  it('does not count I/O that finished before link-up', () => {
    expect(stallAfter([at(0, 10), at(90, 20), at(200, 20), at(300, 20)], 100)).toBeUndefined();
  });

  it('takes the first sample after link-up as the base when there is none before', () => {
    expect(stallAfter([at(150, 5), at(250, 6)], 100)).toBe(150);
  });

  it('does not take what a frozen host had done before for I/O after it', () => {
    expect(stallAfter([at(0, 5), at(9_100, 9), at(9_200, 9), at(9_900, 10)], 9_000)).toBe(900);
  });

  it('says nothing when there is no sample', () => {
    expect(stallAfter([], 100)).toBeUndefined();
  });
});

describe('finishedPerBin', () => {
  it('counts what finished in each span', () => {
    expect(finishedPerBin([at(0, 5), at(100, 10), at(200, 12), at(600, 12), at(700, 20)], 0, 250)).toEqual([
      7, 0, 8,
    ]);
  });

  it('leaves out what finished before the beginning', () => {
    expect(finishedPerBin([at(0, 5), at(100, 10), at(300, 12)], 200, 250)).toEqual([2]);
  });
});

describe('longestStall', () => {
  const moving = [at(0, 1), at(100, 2), at(200, 3)];

  it('is the longest time without a finished I/O', () => {
    expect(longestStall([...moving, at(300, 3), at(900, 4), at(1000, 5)], 0)).toBe(700);
  });

  it('counts one that has not ended, and one that began before', () => {
    expect(longestStall([...moving, at(300, 3), at(800, 3)], 0)).toBe(600);
    expect(longestStall([...moving, at(900, 3), at(1000, 4)], 700)).toBe(800);
  });

  it('leaves out what was over before', () => {
    expect(longestStall([at(0, 1), at(5000, 2), at(5100, 3), at(5200, 4)], 5100)).toBe(100);
  });
});
