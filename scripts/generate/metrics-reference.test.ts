import { describe, expect, it } from 'vitest';
import { TargetMetrics } from '../../dataplane/metrics/target-metrics.ts';
import { createOperatorMetrics } from '../../operator/observability/metrics.ts';
import { describeMetrics } from './metrics-reference.ts';

const labelled = async (registry: TargetMetrics['registry']) =>
  Object.fromEntries((await describeMetrics(registry)).map(({ name, labels }) => [name, labels.join(',')]));

/**
 * Metrics that dashboards and alerts outside of this repository know, with their labels: an API. A name or label that
 * vanishes breaks somebody's alert; adding is fine.
 */
const dataplane = {
  build_info: 'target,node,version',
  listener_up: 'target,node,listener',
  port_phase: 'target,node,listener,phase',
  link_up: 'target,node,listener',
  link_transitions_total: 'target,node,listener,direction',
  drains_total: 'target,node,listener,reason,result',
  drain_duration_seconds: 'target,node,listener',
  recovery_duration_seconds: 'target,node,listener',
  queue_pairs: 'target,node,listener,state',
  epoch: 'target,node,listener',
  memory_regions: 'target,node,listener,device',
  memory_registrations_total: 'target,node,listener,device,result',
  device_fatal_total: 'target,node,listener,device',
  device_healthy: 'target,node,listener,device',
  async_events_total: 'target,node,listener,device,type',
  stale_completions_total: 'target,node,listener',
  connects_rejected_total: 'target,node,listener,reason',
  hosts_connected: 'target,node',
  keepalive_timeouts_total: 'target,node',
  authentication_failures_total: 'target,node',
  operations_total: 'target,node,op',
  bytes_total: 'target,node,op',
  operation_duration_seconds: 'target,node,op',
  errors_total: 'target,node,status',
  buffers: 'target,node,listener,state',
  poll_busy_ratio: 'target,node,poller',
  event_ring_dropped_total: 'target,node',
  open_to_any_host: 'target,node',
  subsystem_info: 'target,node,nqn',
};

const operator = {
  controller_runtime_reconcile_total: 'controller,result',
  controller_runtime_reconcile_errors_total: 'controller',
  controller_runtime_reconcile_time_seconds: 'controller',
  controller_runtime_active_workers: 'controller',
  workqueue_depth: 'name',
  workqueue_adds_total: 'name',
  workqueue_retries_total: 'name',
  workqueue_queue_duration_seconds: 'name',
  workqueue_work_duration_seconds: 'name',
  leader_election_master_status: 'name',
  rest_client_requests_total: 'method,code',
  weir_operator_watch_last_event_timestamp_seconds: 'resource',
  weir_operator_watch_restarts_total: 'resource,reason',
  weir_operator_unreadable_objects: 'resource',
  weir_operator_target_nodes: 'target,state',
  weir_operator_build_info: 'version',
};

describe('the published metrics', () => {
  it('of the dataplane have their names and labels', async () => {
    const prefixed = Object.entries(dataplane).map(([name, labels]) => [`weir_target_${name}`, labels]);
    expect(await labelled(new TargetMetrics().registry)).toMatchObject(Object.fromEntries(prefixed));
  });

  it('of the operator have their names and labels', async () => {
    expect(await labelled(createOperatorMetrics([]).registry)).toMatchObject(operator);
  });
});
