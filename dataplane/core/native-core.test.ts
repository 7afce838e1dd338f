/** The binding against the real core, where it was built (`npm run build`, `npm test`). No RDMA device is needed. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { sampleSpec } from '../sample-spec.ts';
import { CoreError } from './errors.ts';
import type { CoreEvent } from './events.ts';
import { NativeCore } from './native-core.ts';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const libraryPath = process.env['WEIR_CORE_LIBRARY'] || join(root, 'dist/native/libweir_core.so');

/** An address that no machine has (TEST-NET-1). */
const spec = sampleSpec({
  listeners: [{ name: 'storage', addressFrom: { address: '192.0.2.1' } }],
  subsystems: [
    {
      nqn: 'nqn.2026-11.dev.weir:fast',
      namespaces: [{ nsid: 1, backend: { memory: { sizeBytes: 16_777_216 } } }],
    },
  ],
});

const opened: NativeCore[] = [];
afterEach(() => {
  for (const core of opened.splice(0)) core.close();
});

function open() {
  const core = NativeCore.open(libraryPath, 'node-a');
  opened.push(core);
  const events: CoreEvent[] = [];
  core.onEvent((event) => events.push(event));
  const seen = (type: string) =>
    vi.waitFor(() => expect(events.map((it) => it.type)).toContain(type), 10_000);
  return { core, events, seen };
}

describe.skipIf(!existsSync(libraryPath))('the native core', () => {
  it('tells statistics before it has anything to do', () => {
    expect(open().core.stats()).toMatchObject({
      generation: 0,
      state: 'Running',
      listeners: [],
      hostsTotal: 0,
    });
  });

  it('serves what it can and says why it cannot do the rest', async () => {
    const { core, events, seen } = open();
    core.apply(7, spec);
    await seen('applied');
    await vi.waitFor(
      () => expect(core.stats().namespaces).toMatchObject([{ nsid: 1, state: 'Ready' }]),
      10_000,
    );
    const stats = core.stats();
    expect(stats.generation).toBe(7);
    expect(stats.namespaces[0]).toMatchObject({ sizeBytes: 16_777_216, volatile: true });
    expect(stats.listeners).toHaveLength(1);
    expect(['Serving', 'Degraded']).not.toContain(stats.listeners[0]?.phase);
    expect(stats.listeners[0]?.reason).not.toBe('');
    expect(stats.listeners[0]?.message).not.toBe('');
    const strangers = events.filter((event) => event.known === undefined);
    expect(strangers).toEqual([]);
  });

  it('refuses what is no desired state, with the field, and goes on', async () => {
    const { core, seen } = open();
    const wrong = { ...spec, queues: { ...spec.queues, queueDepth: 1 } };
    expect(() => core.apply(1, wrong)).toThrow(CoreError);
    expect(() => core.apply(1, wrong)).toThrow('queueDepth');
    core.apply(2, spec);
    await seen('applied');
  });

  it('drains', async () => {
    const { core, events, seen } = open();
    core.apply(1, spec);
    await seen('applied');
    core.drain(2000);
    await seen('drained');
    expect(events.at(-1)?.known).toMatchObject({ type: 'drained', result: 'completed' });
    expect(core.stats().state).toBe('Drained');
  });

  it('answers nothing after it was closed, and can be closed twice', () => {
    const { core } = open();
    core.close();
    core.close();
    expect(() => core.stats()).toThrow('closed');
  });
});

describe('a library that cannot be used', () => {
  it('is named, with the way out, when it is absent', () => {
    expect(() => NativeCore.open('/nowhere/libweir_core.so', 'node-a')).toThrow(/npm run build/);
  });

  it('is named when it is no library', () => {
    expect(() => NativeCore.open(fileURLToPath(import.meta.url), 'node-a')).toThrow(/cannot be loaded/);
  });
});
