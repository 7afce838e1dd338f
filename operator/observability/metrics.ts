/**
 * The operator's metrics. Where controllers written with controller-runtime have a metric, the name is theirs, so
 * that existing dashboards and alerts work.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { RequestObserver } from '../kubernetes/api-client.ts';
import type { WatchObserver } from '../kubernetes/reflector.ts';
import type { TargetObserver } from '../target/reconciler.ts';
import type { QueueObserver } from '../work-queue/work-queue.ts';
import type { WorkObserver } from '../work-queue/workers.ts';

/** Value of the labels `controller` and `name`: the one controller of this process. */
const CONTROLLER = 'nvmeoftarget';

const RECONCILE_BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const QUEUE_BUCKETS_SECONDS = [0.0001, 0.001, 0.01, 0.1, 1, 10, 60, 300];

const REASONS = ['timeout', 'closed', 'expired', 'inactive', 'error'] as const;

/** The registry and everything that writes to it. */
export interface OperatorMetrics {
  readonly registry: Registry;
  readonly onRequest: RequestObserver;
  readonly watch: WatchObserver;
  readonly queue: QueueObserver;
  readonly work: WorkObserver;
  readonly targets: TargetObserver;
  setLeader(isLeader: boolean): void;
  setVersion(version: string): void;
}

/** Makes the metrics, each series at 0 from the start where its labels are known. */
export function createOperatorMetrics(watchedResources: readonly string[]): OperatorMetrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });

  const reconciles = new Counter({
    name: 'controller_runtime_reconcile_total',
    help: 'Reconciles by result',
    labelNames: ['controller', 'result'],
    registers,
  });
  for (const result of ['success', 'requeue_after', 'error'])
    reconciles.inc({ controller: CONTROLLER, result }, 0);
  const reconcileErrors = new Counter({
    name: 'controller_runtime_reconcile_errors_total',
    help: 'Reconciles that failed',
    labelNames: ['controller'],
    registers,
  });
  reconcileErrors.inc({ controller: CONTROLLER }, 0);
  const reconcileTime = new Histogram({
    name: 'controller_runtime_reconcile_time_seconds',
    help: 'Duration of a reconcile',
    labelNames: ['controller'],
    buckets: RECONCILE_BUCKETS_SECONDS,
    registers,
  });
  const activeWorkers = new Gauge({
    name: 'controller_runtime_active_workers',
    help: 'Reconciles running now',
    labelNames: ['controller'],
    registers,
  });
  activeWorkers.set({ controller: CONTROLLER }, 0);

  const queueLabels = { name: CONTROLLER };
  const depth = new Gauge({
    name: 'workqueue_depth',
    help: 'Keys that wait',
    labelNames: ['name'],
    registers,
  });
  depth.set(queueLabels, 0);
  const adds = new Counter({
    name: 'workqueue_adds_total',
    help: 'Keys added',
    labelNames: ['name'],
    registers,
  });
  adds.inc(queueLabels, 0);
  const retries = new Counter({
    name: 'workqueue_retries_total',
    help: 'Keys added again after a failure',
    labelNames: ['name'],
    registers,
  });
  retries.inc(queueLabels, 0);
  const queueDuration = new Histogram({
    name: 'workqueue_queue_duration_seconds',
    help: 'Time from a key being added until its work starts',
    labelNames: ['name'],
    buckets: QUEUE_BUCKETS_SECONDS,
    registers,
  });
  const workDuration = new Histogram({
    name: 'workqueue_work_duration_seconds',
    help: 'Time that the work on a key takes',
    labelNames: ['name'],
    buckets: QUEUE_BUCKETS_SECONDS,
    registers,
  });

  const leader = new Gauge({
    name: 'leader_election_master_status',
    help: '1 if this replica leads',
    labelNames: ['name'],
    registers,
  });
  leader.set({ name: 'weir-operator' }, 0);
  const requests = new Counter({
    name: 'rest_client_requests_total',
    help: 'Requests to the API server by method and HTTP status',
    labelNames: ['method', 'code'],
    registers,
  });
  const lastEvent = new Gauge({
    name: 'weir_operator_watch_last_event_timestamp_seconds',
    help: 'Unix time of the last event (or bookmark) of a watch',
    labelNames: ['resource'],
    registers,
  });
  const restarts = new Counter({
    name: 'weir_operator_watch_restarts_total',
    help: 'Watches that were started again, by reason',
    labelNames: ['resource', 'reason'],
    registers,
  });
  const unreadable = new Gauge({
    name: 'weir_operator_unreadable_objects',
    help: 'Objects that are stored in a form that the operator cannot read; it goes by what it knew of them before',
    labelNames: ['resource'],
    registers,
  });
  for (const resource of watchedResources) {
    unreadable.set({ resource }, 0);
    lastEvent.set({ resource }, 0);
    for (const reason of REASONS) restarts.inc({ resource, reason }, 0);
  }

  const targetNodes = new Gauge({
    name: 'weir_operator_target_nodes',
    help: 'Nodes of a target: those that should serve it, and those that do',
    labelNames: ['target', 'state'],
    registers,
  });

  const buildInfo = new Gauge({
    name: 'weir_operator_build_info',
    help: 'Always 1; the label says which build this is',
    labelNames: ['version'],
    registers,
  });

  return {
    registry,
    setVersion: (version) => buildInfo.set({ version }, 1),
    onRequest: (method, code) => requests.inc({ method, code }),
    watch: {
      eventSeen: (resource) => lastEvent.set({ resource }, Date.now() / 1000),
      restarted: (resource, reason) => restarts.inc({ resource, reason }),
      unreadable: (resource, objects) => unreadable.set({ resource }, objects),
    },
    queue: {
      added: () => adds.inc(queueLabels),
      retried: () => retries.inc(queueLabels),
      depth: (keys) => depth.set(queueLabels, keys),
      started: (seconds) => queueDuration.observe(queueLabels, seconds),
      finished: (seconds) => workDuration.observe(queueLabels, seconds),
    },
    work: {
      began: () => activeWorkers.inc({ controller: CONTROLLER }),
      ended: (result, seconds) => {
        activeWorkers.dec({ controller: CONTROLLER });
        reconciles.inc({ controller: CONTROLLER, result });
        if (result === 'error') reconcileErrors.inc({ controller: CONTROLLER });
        reconcileTime.observe({ controller: CONTROLLER }, seconds);
      },
    },
    targets: {
      observed: (target, { desired, ready }) => {
        targetNodes.set({ target, state: 'desired' }, desired);
        targetNodes.set({ target, state: 'ready' }, ready);
      },
      gone: (target) => {
        for (const state of ['desired', 'ready']) targetNodes.remove({ target, state });
      },
    },
    setLeader: (isLeader) => leader.set({ name: 'weir-operator' }, isLeader ? 1 : 0),
  };
}
