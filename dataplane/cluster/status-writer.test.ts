import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { NvmeofTargetNodeStatus } from '../../crds/nvmeof-target-node.ts';
import { StatusWriter } from './status-writer.ts';

const silent = pino({ level: 'silent' });

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

function setUp() {
  const written: NvmeofTargetNodeStatus[] = [];
  let status: NvmeofTargetNodeStatus | undefined = { connectedHosts: 0 };
  let failing = false;
  const writer = new StatusWriter(
    () => status,
    (it) => {
      if (failing) return Promise.reject(new Error('connection refused'));
      written.push(it);
      return Promise.resolve();
    },
    silent,
  );
  return {
    writer,
    written,
    set: (next: NvmeofTargetNodeStatus | undefined) => {
      status = next;
    },
    fail: (next: boolean) => {
      failing = next;
    },
  };
}

describe('the status in the cluster', () => {
  it('is written once as long as nothing changes', async () => {
    const { writer, written } = setUp();
    writer.start();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(written).toHaveLength(1);
  });

  it('is written at most once a second, with what is true then', async () => {
    const { writer, written, set } = setUp();
    writer.start();
    for (let hosts = 1; hosts <= 100; hosts += 1) {
      set({ connectedHosts: hosts });
      await vi.advanceTimersByTimeAsync(100);
    }
    expect(written.length).toBeLessThanOrEqual(10);
    await vi.advanceTimersByTimeAsync(1000);
    expect(written.at(-1)).toEqual({ connectedHosts: 100 });
  });

  it('is written in the end when the API server was away', async () => {
    const { writer, written, fail } = setUp();
    writer.start();
    fail(true);
    await vi.advanceTimersByTimeAsync(120_000);
    fail(false);
    await vi.advanceTimersByTimeAsync(31_000);
    expect(written).toHaveLength(1);
  });

  it('is not written before there is something to report', async () => {
    const { writer, written, set } = setUp();
    set(undefined);
    writer.start();
    await vi.advanceTimersByTimeAsync(5000);
    expect(written).toEqual([]);
  });

  it('is written a last time when the dataplane leaves, even if the API server is away', async () => {
    const { writer, written, set, fail } = setUp();
    writer.start();
    await vi.advanceTimersByTimeAsync(1000);
    set({ connectedHosts: 5 });
    await writer.stop();
    expect(written.at(-1)).toEqual({ connectedHosts: 5 });
    fail(true);
    set({ connectedHosts: 6 });
    await expect(writer.stop()).resolves.toBeUndefined();
  });
});
