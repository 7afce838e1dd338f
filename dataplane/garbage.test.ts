import { afterEach, describe, expect, it, vi } from 'vitest';
import { collectGarbageRegularly, fullCollection } from './garbage.ts';

afterEach(() => {
  vi.useRealTimers();
});

describe('fullCollection', () => {
  it('frees what nobody holds', async () => {
    const collect = fullCollection();
    const garbage = new WeakRef({ some: 'statistics' });
    // A WeakRef holds its object until the turn in which it was made is over.
    await new Promise((resolve) => setImmediate(resolve));
    collect();
    expect(garbage.deref()).toBeUndefined();
  });
});

describe('collectGarbageRegularly', () => {
  it('collects once a minute', () => {
    vi.useFakeTimers();
    const collect = vi.fn();
    collectGarbageRegularly(collect);
    vi.advanceTimersByTime(59_999);
    expect(collect).not.toHaveBeenCalled();
    vi.advanceTimersByTime(120_001);
    expect(collect).toHaveBeenCalledTimes(3);
  });
});
