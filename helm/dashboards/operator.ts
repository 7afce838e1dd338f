/** Whether the operator does its work, and how much that costs the API server. */
import { curves, type Dashboard } from './dashboard.ts';

/** Other controllers have metrics of these names, too. */
const OWN = 'job=~"$job"';

const rate = (metric: string, by: string): string =>
  `sum by (${by}) (rate(${metric}{${OWN}}[$__rate_interval]))`;

const p99 = (metric: string): string =>
  `histogram_quantile(0.99, sum by (le) (rate(${metric}_bucket{${OWN}}[$__rate_interval])))`;

/** See the head of this file. */
export const operatorDashboard: Dashboard = {
  uid: 'weir-operator',
  title: 'Weir / operator',
  description: 'The operator: leadership, reconciles, its queue, requests to the API server.',
  variables: [
    {
      name: 'job',
      label: 'Job',
      query: 'label_values(weir_operator_watch_last_event_timestamp_seconds, job)',
    },
  ],
  rows: [
    {
      title: 'Work',
      panels: [
        curves('Leader', 'Each replica: 1 while it leads. Nobody for long: nothing is reconciled.', 'none', {
          expr: `leader_election_master_status{${OWN}}`,
          legend: '{{pod}}',
        }),
        curves('Nodes of targets', 'Those that should serve a target, and those that do.', 'none', {
          expr: `sum by (state) (weir_operator_target_nodes{${OWN}})`,
          legend: '{{state}}',
        }),
        curves('Reconciles', 'By result; errors are tried again.', 'ops', {
          expr: rate('controller_runtime_reconcile_total', 'result'),
          legend: '{{result}}',
        }),
        curves('Length of reconciles', '99 of 100 took no longer.', 's', {
          expr: p99('controller_runtime_reconcile_time_seconds'),
          legend: 'p99',
        }),
        curves('Targets that wait', 'In the queue now; and how long 99 of 100 waited.', 'none', {
          expr: `sum(workqueue_depth{${OWN}})`,
          legend: 'waiting',
        }),
        curves('Wait in the queue', '99 of 100 targets waited no longer.', 's', {
          expr: p99('workqueue_queue_duration_seconds'),
          legend: 'p99',
        }),
      ],
    },
    {
      title: 'API server',
      panels: [
        curves(
          'Requests',
          'By HTTP status. 409: somebody else wrote first; 429: the API server asks for patience.',
          'reqps',
          {
            expr: rate('rest_client_requests_total', 'code'),
            legend: '{{code}}',
          },
        ),
        curves(
          'Watches begun again',
          'By resource and reason; inactive and error are not ordinary.',
          'none',
          {
            expr: `sum by (resource, reason) (increase(weir_operator_watch_restarts_total{${OWN}}[$__rate_interval]))`,
            legend: '{{resource}} {{reason}}',
          },
        ),
        curves(
          'Since the last event of a watch',
          'Bookmarks come at least every minute or so: more is a watch that stalls.',
          's',
          {
            expr: `time() - max by (resource) (weir_operator_watch_last_event_timestamp_seconds{${OWN}} > 0)`,
            legend: '{{resource}}',
          },
        ),
      ],
    },
    {
      title: 'Process',
      panels: [
        curves('Resident memory', 'Of each replica.', 'bytes', {
          expr: `process_resident_memory_bytes{${OWN}}`,
          legend: '{{pod}}',
        }),
        curves('Processor', 'Of each replica, in cores.', 'none', {
          expr: `rate(process_cpu_seconds_total{${OWN}}[$__rate_interval])`,
          legend: '{{pod}}',
        }),
        curves('Lag of the event loop', '99 of 100 turns began no later than this.', 's', {
          expr: `nodejs_eventloop_lag_p99_seconds{${OWN}}`,
          legend: '{{pod}}',
        }),
      ],
    },
  ],
};
