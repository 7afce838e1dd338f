import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { WorkQueue } from './work-queue.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** What the queue hands out now, without waiting. */
async function takeNow(queue: WorkQueue): Promise<string | undefined> {
  return Promise.race([queue.take(), Promise.resolve().then(() => 'nothing')]);
}

describe('a work queue', () => {
  it('hands keys out in the order in which they came, each once', async () => {
    const queue = new WorkQueue();
    for (const key of ['a', 'b', 'a']) queue.add(key);
    expect(queue.depth).toBe(2);
    expect(await queue.take()).toBe('a');
    expect(await queue.take()).toBe('b');
    expect(await takeNow(queue)).toBe('nothing');
  });

  it('never has one key worked on twice at a time, and forgets no request', async () => {
    const queue = new WorkQueue();
    queue.add('a');
    await queue.take();
    queue.add('a');
    const second = queue.take();
    expect(await Promise.race([second, Promise.resolve('nothing')])).toBe('nothing');
    queue.done('a');
    expect(await second).toBe('a');
  });

  it('comes back to a failing key later and later, up to a limit', async () => {
    const queue = new WorkQueue(undefined, { baseMilliseconds: 100, maxMilliseconds: 350 });
    const waits: number[] = [];
    queue.add('a');
    for (let failure = 0; failure < 4; failure += 1) {
      const key = await queue.take();
      queue.retry('a');
      queue.done(key ?? '');
      const before = performance.now();
      const next = queue.take();
      await vi.advanceTimersToNextTimerAsync();
      await next;
      waits.push(Math.round(performance.now() - before));
      queue.done('a');
      queue.add('a');
    }
    expect(waits).toEqual([100, 200, 350, 350]);
  });

  it('begins anew with the waits once a key has succeeded', async () => {
    const queue = new WorkQueue(undefined, { baseMilliseconds: 100, maxMilliseconds: 1000 });
    queue.retry('a');
    queue.retry('a');
    queue.forget('a');
    await vi.advanceTimersByTimeAsync(1000);
    expect(await queue.take()).toBe('a');
    queue.done('a');
    queue.retry('a');
    await vi.advanceTimersByTimeAsync(99);
    expect(queue.depth).toBe(0);
    await vi.advanceTimersByTimeAsync(1);
    expect(queue.depth).toBe(1);
  });

  it('keeps the earlier of two later requests, and none when work is asked for at once', async () => {
    const queue = new WorkQueue();
    queue.addAfter('a', 50);
    queue.addAfter('a', 500);
    await vi.advanceTimersByTimeAsync(50);
    expect(await queue.take()).toBe('a');
    queue.done('a');
    queue.addAfter('a', 50);
    queue.add('a');
    expect(await queue.take()).toBe('a');
    queue.done('a');
    await vi.advanceTimersByTimeAsync(1000);
    expect(queue.depth).toBe(0);
  });

  it('lets its takers go when it is shut, and takes nothing more', async () => {
    const queue = new WorkQueue();
    const taker = queue.take();
    queue.addAfter('late', 10);
    queue.shutDown();
    queue.add('a');
    expect(await taker).toBeUndefined();
    expect(await queue.take()).toBeUndefined();
    expect(vi.getTimerCount()).toBe(0);
  });
});
