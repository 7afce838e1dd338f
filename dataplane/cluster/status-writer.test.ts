import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { NvmeofTargetNodeStatus } from '../../crds/nvmeof-target-node.ts';
import { sampleListener, sampleStats } from '../core/fake-core.ts';
import { buildStatus } from './status.ts';
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

/** The whole status of a node with one listener, one namespace and one host, somewhere in a series of flaps. */
function flappingStatus(phase: 'Holding' | 'Serving', flaps: number): NvmeofTargetNodeStatus {
  const linkUp = phase === 'Serving';
  const reason = linkUp ? 'LinkBackInTime' : 'LinkDown';
  const message = linkUp
    ? 'the link came back within the hold time; connections go on'
    : 'interface rdma0 is down or has no carrier';
  const listener = sampleListener({
    phase,
    linkUp,
    reason,
    message,
    linkTransitions: { up: flaps, down: flaps },
  });
  const host = {
    subsystem: 'nqn.2026-11.dev.weir:fast',
    hostNqn: 'nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555',
    controllerId: 1,
    listener: 'storage',
    source: '10.9.0.2:40000',
    queues: 3,
    sinceMs: 1_790_000_000_000,
    discovery: false,
  };
  return buildStatus({
    stats: sampleStats({ generation: 3, listeners: [listener], hosts: [host], hostsTotal: 1 }),
    generation: 3,
    refusal: undefined,
    node: 'node-a',
    version: '0.1.0',
    startTime: new Date(1_790_000_000_000),
    previous: [],
    outagesOf: () => [],
    now: new Date(1_790_000_000_000),
  });
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

  it('is written at a bounded rate through 1,000 flaps, and what is true in the end is written', async () => {
    const { writer, written, set } = setUp();
    writer.start();
    const writtenAt: number[] = [];
    for (let flap = 1; flap <= 1000; flap += 1) {
      for (const phase of ['Holding', 'Serving'] as const) {
        set(flappingStatus(phase, flap));
        await vi.advanceTimersByTimeAsync(300);
        while (writtenAt.length < written.length) writtenAt.push(Date.now());
      }
    }
    const minute = 60_000;
    const busiest = Math.max(
      ...writtenAt.map((start) => writtenAt.filter((at) => at >= start && at < start + minute).length),
    );
    // A burst of ten, then one every five seconds.
    expect(busiest).toBeLessThanOrEqual(10 + 12);
    expect(written.length).toBeLessThanOrEqual(10 + 600 / 5 + 1);
    await vi.advanceTimersByTimeAsync(5000);
    expect(written.at(-1)).toEqual(flappingStatus('Serving', 1000));
    expect(Buffer.byteLength(JSON.stringify(written.at(-1)))).toBeLessThanOrEqual(2560);
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
