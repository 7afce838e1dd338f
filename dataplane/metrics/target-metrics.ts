/** The metrics of a dataplane. Names and labels are an API: dashboards and alerts depend on them. */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { type NvmeofTargetNodeSpec, PORT_PHASES } from '../../crds/nvmeof-target-node.ts';
import type { CoreEvent } from '../core/events.ts';
import { type CoreStats, type ListenerStats, namespaceStates, operationNames } from '../core/stats.ts';
import { isDeviceHealthy } from '../device-health.ts';
import { isServing } from '../health.ts';
import { DrainReasons } from './drain-reasons.ts';
import { ExternalHistogram } from './duration-histogram.ts';

/** Whose metrics these are: on every series. */
export interface MetricsIdentity {
  /** `<namespace>/<name>` of the NvmeofTarget. */
  target: string;
  node: string;
}

/** Labels whose series exist from the start, so that the first one counts as an increase; others come as they come. */
const usualRejections = [
  'NotServing',
  'TooManyConnections',
  'NoResources',
  'InvalidLength',
  'InvalidRecordFormat',
];
const usualAsyncEvents = [
  'PORT_ERR',
  'PORT_ACTIVE',
  'GID_CHANGE',
  'DEVICE_FATAL',
  'QP_FATAL',
  'CQ_ERR',
  'SRQ_ERR',
];

const prefix = 'weir_target_';
const identityLabels = ['target', 'node'];

/** Holds the registry; filled anew from the core's statistics at every scrape. */
export class TargetMetrics {
  readonly registry = new Registry();
  /** What is emptied and filled anew at every scrape. */
  readonly #refilled: { reset(): void }[] = [];
  readonly #drainReasons = new DrainReasons();
  /** A device's name outlives the device: its counters must not move to another series while it is away. */
  readonly #devices = new Map<string, string>();
  #reloadFailures = 0;

  readonly #buildInfo = this.#gauge('build_info', 'Always 1; the labels say which build this is.', [
    'version',
  ]);
  readonly #subsystemInfo = this.#gauge(
    'subsystem_info',
    'Always 1; the label is the NQN that hosts connect to. Of several, the first: they share the listeners.',
    ['nqn'],
  );
  readonly #listenerUp = this.#gauge(
    'listener_up',
    'Whether hosts can connect to the listener (1) or not (0).',
    ['listener'],
  );
  readonly #linkUp = this.#gauge('link_up', "Whether the link of the listener's device is up.", ['listener']);
  readonly #portPhase = this.#gauge('port_phase', '1 for the phase that the port is in, 0 for the others.', [
    'listener',
    'phase',
  ]);
  readonly #linkTransitions = this.#counter(
    'link_transitions_total',
    'Times the link came up or went down.',
    ['listener', 'direction'],
  );
  readonly #drains = this.#counter('drains_total', 'Drains of the port by reason and result.', [
    'listener',
    'reason',
    'result',
  ]);
  readonly #drainDuration = this.#histogram(
    'drain_duration_seconds',
    'From the start of a drain until every queue pair and buffer was released.',
    ['listener'],
  );
  readonly #recoveryDuration = this.#histogram(
    'recovery_duration_seconds',
    'From a link coming up until the port served again.',
    ['listener'],
  );
  readonly #queuePairs = this.#gauge('queue_pairs', 'Queue pairs by state.', ['listener', 'state']);
  readonly #epoch = this.#gauge('epoch', 'Times the port began to serve.', ['listener']);
  readonly #memoryRegions = this.#gauge('memory_regions', 'Memory regions registered with the device.', [
    'listener',
    'device',
  ]);
  readonly #memoryBytes = this.#gauge('memory_registered_bytes', 'Memory registered with the device.', [
    'listener',
    'device',
  ]);
  readonly #memoryRegistrations = this.#counter(
    'memory_registrations_total',
    'Attempts to register memory with the device.',
    ['listener', 'device', 'result'],
  );
  readonly #deviceFatal = this.#counter(
    'device_fatal_total',
    'Fatal errors of the device; that it was removed is one.',
    ['listener', 'device'],
  );
  readonly #deviceHealthy = this.#gauge(
    'device_healthy',
    'Whether the RDMA device works as far as its port can tell; as the condition DeviceHealthy.',
    ['listener', 'device'],
  );
  readonly #asyncEvents = this.#counter('async_events_total', 'Asynchronous events of the device.', [
    'listener',
    'device',
    'type',
  ]);
  readonly #staleCompletions = this.#counter(
    'stale_completions_total',
    'Completions of work that belonged to an earlier epoch; dropped.',
    ['listener'],
  );
  readonly #connectsRejected = this.#counter('connects_rejected_total', 'Connects refused.', [
    'listener',
    'reason',
  ]);
  readonly #buffers = this.#gauge('buffers', 'Data buffers by state.', ['listener', 'state']);
  readonly #namespaces = this.#gauge('namespaces', 'Namespaces by state.', ['state']);
  readonly #anyHost = this.#gauge(
    'open_to_any_host',
    '1 if a subsystem admits every host (access.policy AnyHost).',
    [],
  );
  readonly #hostsConnected = this.#gauge('hosts_connected', 'Connected hosts (controllers).', []);
  readonly #keepAliveTimeouts = this.#counter(
    'keepalive_timeouts_total',
    'Hosts dropped because their keep-alive timeout expired.',
    [],
  );
  readonly #authenticationFailures = this.#counter(
    'authentication_failures_total',
    'Hosts refused because they could not prove who they are.',
    [],
  );
  readonly #operations = this.#counter('operations_total', 'Commands completed.', ['op']);
  readonly #bytes = this.#counter('bytes_total', 'Data moved for completed commands.', ['op']);
  readonly #operationDuration = this.#histogram(
    'operation_duration_seconds',
    'From the arrival of a command until its completion was sent.',
    ['op'],
  );
  readonly #errors = this.#counter('errors_total', 'Commands answered with an error, by NVMe status.', [
    'status',
  ]);
  readonly #pollBusy = this.#gauge('poll_busy_ratio', 'Share of its time that a poller thread had work.', [
    'poller',
  ]);
  readonly #leakedVerbsObjects = this.#gauge(
    'leaked_verbs_objects',
    'RDMA objects that the kernel refused to destroy; they and their memory are kept until the process ends. More than 0: a bug or a dead device.',
    [],
  );
  readonly #eventsDropped = this.#counter(
    'event_ring_dropped_total',
    'Events of the core that were lost because they were not taken in time.',
    [],
  );
  readonly #configReloadFailures = this.#counter(
    'config_reload_failures_total',
    'Changed desired states that could not be used; the last good one is served on.',
    [],
  );

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  /** Notes what only events tell. */
  observeEvent(event: CoreEvent): void {
    this.#drainReasons.observe(event);
  }

  /** Counts a changed desired state that could not be used. */
  countReloadFailure(): void {
    this.#reloadFailures += 1;
  }

  /** Fills every metric from one snapshot. `spec` is absent before the first desired state. */
  update(
    stats: CoreStats,
    identity: MetricsIdentity,
    version: string,
    spec: NvmeofTargetNodeSpec | undefined,
  ): void {
    const own = { target: identity.target, node: identity.node };
    // The series of listeners that are gone must go too.
    for (const metric of this.#refilled) metric.reset();

    this.#buildInfo.set({ ...own, version }, 1);
    const [subsystem] = spec?.subsystems ?? [];
    if (subsystem !== undefined) this.#subsystemInfo.set({ ...own, nqn: subsystem.nqn }, 1);
    for (const listener of stats.listeners) this.#updateListener(listener, own);
    this.#drainDuration.set(
      stats.listeners.map(({ name, drainDuration }) => ({
        labels: { ...own, listener: name },
        histogram: drainDuration,
      })),
    );
    this.#recoveryDuration.set(
      stats.listeners.map(({ name, recoveryDuration }) => ({
        labels: { ...own, listener: name },
        histogram: recoveryDuration,
      })),
    );

    for (const state of namespaceStates) {
      const count = stats.namespaces.filter((namespace) => namespace.state === state).length;
      this.#namespaces.set({ ...own, state }, count);
    }
    const open = spec?.subsystems.some((subsystem) => subsystem.access.policy === 'AnyHost') ?? false;
    this.#anyHost.set(own, open ? 1 : 0);
    this.#hostsConnected.set(own, stats.hostsTotal);
    this.#keepAliveTimeouts.inc(own, stats.keepAliveTimeouts);
    this.#authenticationFailures.inc(own, stats.authenticationFailures);
    for (const op of operationNames) {
      this.#operations.inc({ ...own, op }, stats.operations[op].count);
      this.#bytes.inc({ ...own, op }, stats.operations[op].bytes);
    }
    this.#operationDuration.set(
      operationNames.map((op) => ({ labels: { ...own, op }, histogram: stats.operations[op].duration })),
    );
    for (const [status, count] of Object.entries(stats.errors)) this.#errors.inc({ ...own, status }, count);
    for (const { index, busyRatio } of stats.pollers) {
      this.#pollBusy.set({ ...own, poller: String(index) }, busyRatio);
    }
    this.#leakedVerbsObjects.set(own, stats.verbsObjects.leaked);
    this.#eventsDropped.inc(own, stats.eventRingDropped);
    this.#configReloadFailures.inc(own, this.#reloadFailures);
  }

  #updateListener(stats: ListenerStats, identity: { target: string; node: string }): void {
    const own = { ...identity, listener: stats.name };
    if (stats.device !== null) this.#devices.set(stats.name, stats.device);
    const onDevice = { ...own, device: this.#devices.get(stats.name) ?? '' };

    this.#listenerUp.set(own, isServing(stats.phase) ? 1 : 0);
    this.#linkUp.set(own, stats.linkUp ? 1 : 0);
    for (const phase of PORT_PHASES) this.#portPhase.set({ ...own, phase }, phase === stats.phase ? 1 : 0);
    this.#linkTransitions.inc({ ...own, direction: 'up' }, stats.linkTransitions.up);
    this.#linkTransitions.inc({ ...own, direction: 'down' }, stats.linkTransitions.down);
    for (const { reason, result, count } of this.#drainReasons.split(stats.name, stats.drains)) {
      this.#drains.inc({ ...own, reason, result }, count);
    }
    for (const state of ['active', 'draining', 'quarantined'] as const) {
      this.#queuePairs.set({ ...own, state }, stats.queuePairs[state]);
    }
    this.#epoch.set(own, stats.epoch);
    this.#memoryRegions.set(onDevice, stats.memoryRegions);
    this.#memoryBytes.set(onDevice, stats.memoryRegisteredBytes);
    for (const result of ['succeeded', 'failed'] as const) {
      this.#memoryRegistrations.inc({ ...onDevice, result }, stats.memoryRegistrations[result]);
    }
    this.#deviceFatal.inc(onDevice, stats.deviceFatal);
    this.#deviceHealthy.set(onDevice, isDeviceHealthy(stats) ? 1 : 0);
    for (const [type, count] of Object.entries({ ...zeros(usualAsyncEvents), ...stats.asyncEvents })) {
      this.#asyncEvents.inc({ ...onDevice, type }, count);
    }
    this.#staleCompletions.inc(own, stats.staleCompletions);
    const rejected = { ...zeros(usualRejections), ...stats.connectsRejected };
    for (const [reason, count] of Object.entries(rejected)) {
      this.#connectsRejected.inc({ ...own, reason }, count);
    }
    for (const state of ['free', 'used', 'quarantined'] as const) {
      this.#buffers.set({ ...own, state }, stats.buffers[state]);
    }
  }

  #gauge(name: string, help: string, labels: string[]): Gauge {
    const gauge = new Gauge(this.#options(name, help, labels));
    this.#refilled.push(gauge);
    return gauge;
  }

  #counter(name: string, help: string, labels: string[]): Counter {
    const counter = new Counter(this.#options(name, help, labels));
    this.#refilled.push(counter);
    return counter;
  }

  #histogram(name: string, help: string, labels: string[]): ExternalHistogram {
    return new ExternalHistogram(this.#options(name, help, labels));
  }

  #options(name: string, help: string, labels: string[]) {
    return {
      name: `${prefix}${name}`,
      help,
      labelNames: [...identityLabels, ...labels],
      registers: [this.registry],
    };
  }
}

function zeros(names: readonly string[]): Record<string, number> {
  return Object.fromEntries(names.map((name) => [name, 0]));
}
