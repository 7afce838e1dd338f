/** A core without a native library, for tests: remembers what it was told and emits what it is given. */
import type { NvmeofTargetNodeSpec } from '../../crds/nvmeof-target-node.ts';
import type { Core } from './core.ts';
import { type CoreEvent, parseEventLine } from './events.ts';
import {
  type CoreStats,
  type DurationHistogram,
  type ListenerStats,
  type NamespaceStats,
  operationNames,
} from './stats.ts';

/** See the head of this file. */
export class FakeCore implements Core {
  readonly applied: { generation: number; spec: NvmeofTargetNodeSpec }[] = [];
  readonly drains: number[] = [];
  closed = false;
  /** Thrown by the next `apply`. */
  refusal: Error | undefined;
  snapshot: CoreStats = sampleStats();
  /** Called when `drain` is; by default the drain completes at once. */
  whenDrained: () => void = () => this.emit({ type: 'drained', result: 'completed' });
  #listeners: ((event: CoreEvent) => void)[] = [];
  #seq = 0;

  apply(generation: number, spec: NvmeofTargetNodeSpec): void {
    const refusal = this.refusal;
    this.refusal = undefined;
    if (refusal !== undefined) throw refusal;
    this.applied.push({ generation, spec });
    this.snapshot = { ...this.snapshot, generation };
    this.emit({ type: 'applied', generation });
  }

  drain(timeoutMilliseconds: number): void {
    this.drains.push(timeoutMilliseconds);
    this.snapshot = { ...this.snapshot, state: 'Draining' };
    this.whenDrained();
  }

  stats(): CoreStats {
    return this.snapshot;
  }

  onEvent(listener: (event: CoreEvent) => void): void {
    this.#listeners.push(listener);
  }

  close(): void {
    this.closed = true;
  }

  /** Emits an event as the core would write it. */
  emit(fields: { type: string; level?: CoreEvent['level']; [field: string]: unknown }): void {
    this.#seq += 1;
    const line = JSON.stringify({ seq: this.#seq, timeMs: 1_790_000_000_000, level: 'info', ...fields });
    const event = parseEventLine(line);
    for (const listener of this.#listeners) listener(event);
  }
}

const emptyHistogram: DurationHistogram = {
  boundsSeconds: [0.001, 0.1],
  counts: [0, 0, 0],
  sumSeconds: 0,
  count: 0,
};

/** A listener that serves on rxe0. */
export function sampleListener(changes: Partial<ListenerStats> = {}): ListenerStats {
  return {
    name: 'storage',
    address: '10.9.0.1',
    port: 4420,
    device: 'rxe0',
    netdev: 'rdma0',
    linkUp: true,
    phase: 'Serving',
    epoch: 1,
    sinceMs: 1_790_000_000_000,
    reason: '',
    message: '',
    linkTransitions: { up: 0, down: 0 },
    drains: { completed: 0, timedOut: 0 },
    drainDuration: emptyHistogram,
    recoveryDuration: emptyHistogram,
    queuePairs: { active: 0, draining: 0, quarantined: 0 },
    memoryRegions: 4,
    memoryRegisteredBytes: 16_777_216,
    memoryRegistrations: { succeeded: 4, failed: 0 },
    deviceFatal: 0,
    asyncEvents: {},
    staleCompletions: 0,
    connectsRejected: { NotServing: 0 },
    buffers: { free: 576, used: 0, quarantined: 0 },
    verbsObjects: { queuePairs: 0 },
    ...changes,
  };
}

/** A memory namespace that is ready. */
export function sampleNamespace(changes: Partial<NamespaceStats> = {}): NamespaceStats {
  return {
    subsystem: 'nqn.2026-11.dev.weir:fast',
    nsid: 1,
    uuid: '3b2f1c1e-6f5e-5c0a-9a52-0d5e1b2a4c77',
    state: 'Ready',
    reason: '',
    message: '',
    sizeBytes: 1_073_741_824,
    volatile: true,
    ...changes,
  };
}

/** A core that serves one listener and one namespace to nobody. */
export function sampleStats(changes: Partial<CoreStats> = {}): CoreStats {
  const operation = { count: 0, bytes: 0, duration: emptyHistogram };
  return {
    generation: 0,
    state: 'Running',
    paths: 'Accessible',
    listeners: [sampleListener()],
    namespaces: [sampleNamespace()],
    hosts: [],
    hostsTotal: 0,
    operations: Object.fromEntries(
      operationNames.map((name) => [name, operation]),
    ) as CoreStats['operations'],
    errors: { InvalidField: 0 },
    keepAliveTimeouts: 0,
    authenticationFailures: 0,
    authenticationProblems: [],
    pollers: [{ index: 0, busyRatio: 0, polls: 0, sleeps: 0, sendWorkRequests: 0, doorbells: 0 }],
    verbsObjects: { leaked: 0 },
    eventRingDropped: 0,
    ...changes,
  };
}
