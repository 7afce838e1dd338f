/** What an operator on call wants to know of targets: who is served, over which links, how well, and what happened. */
import { curves, type Dashboard, valueNow } from './dashboard.ts';

const CHOSEN = 'target=~"$target",node=~"$node"';

/** A series of the chosen targets. */
const of = (metric: string, matchers = ''): string =>
  `weir_target_${metric}{${CHOSEN}${matchers === '' ? '' : `,${matchers}`}}`;

const perSecond = (metric: string, by: string): string =>
  `sum by (${by}) (rate(${of(metric)}[$__rate_interval]))`;

/** How often it happened, per interval shown: rare things are counted, not divided by time. */
const counted = (metric: string, by: string): string =>
  `sum by (${by}) (increase(${of(metric)}[$__rate_interval]))`;

const quantile = (q: number, metric: string, by: string): string =>
  `histogram_quantile(${q}, sum by (le, ${by}) (rate(${of(`${metric}_bucket`)}[$__rate_interval])))`;

const LISTENER = '{{target}} {{node}} {{listener}}';

/** See the head of this file. */
export const targetsDashboard: Dashboard = {
  uid: 'weir-targets',
  title: 'Weir / targets',
  description:
    'NVMe-oF targets: links and ports, hosts, I/O, memory. A runbook for each alert is in docs/runbooks.',
  variables: [
    { name: 'target', label: 'Target', query: 'label_values(weir_target_build_info, target)' },
    { name: 'node', label: 'Node', query: 'label_values(weir_target_build_info{target=~"$target"}, node)' },
  ],
  rows: [
    {
      title: 'Now',
      panels: [
        valueNow(
          'Alerts firing',
          'Alerts of Weir that fire now, whatever is chosen above.',
          'count(ALERTS{alertname=~"Weir.+",alertstate="firing"}) or vector(0)',
          'zero',
        ),
        valueNow(
          'Nodes not serving',
          'Nodes that should serve their target and do not.',
          'sum(weir_operator_target_nodes{target=~"$target",state="desired"}) - sum(weir_operator_target_nodes{target=~"$target",state="ready"})',
          'zero',
        ),
        valueNow(
          'Listeners down',
          'Listeners that no host can connect to.',
          `count(${of('listener_up')} == 0) or vector(0)`,
          'zero',
        ),
        valueNow(
          'Links down',
          'Listeners whose link is down.',
          `count(${of('link_up')} == 0) or vector(0)`,
          'zero',
        ),
        valueNow(
          'Devices not healthy',
          'RDMA devices with a fatal error, or that are gone.',
          `count(${of('device_healthy')} == 0) or vector(0)`,
          'zero',
        ),
        valueNow(
          'Hosts connected',
          'Controllers: a host counts once for each path.',
          `sum(${of('hosts_connected')})`,
        ),
      ],
    },
    {
      title: 'Links and ports',
      panels: [
        {
          title: 'Phase of each port',
          description:
            'What each port was doing: Serving is what it should be. docs/how-to/link-flaps.md tells the others.',
          type: 'state-timeline',
          unit: 'none',
          queries: [
            {
              expr: `max by (target, node, listener, phase) (${of('port_phase')}) == 1`,
              legend: `${LISTENER} {{phase}}`,
            },
          ],
        },
        curves(
          'Links going down and up',
          'Each is one change of the link that the node was told of.',
          'none',
          {
            expr: counted('link_transitions_total', 'target, node, listener, direction'),
            legend: `${LISTENER} {{direction}}`,
          },
        ),
        curves(
          'Link-up to serving',
          'How long after link-up the port served again; 99 of 100 took no longer. Above 2 s hosts notice.',
          's',
          { expr: quantile(0.99, 'recovery_duration_seconds', 'target, node, listener'), legend: LISTENER },
        ),
        curves(
          'Drains',
          'By what began them and how they ended. timedOut: storage held I/O longer than the drain timeout.',
          'none',
          {
            expr: counted('drains_total', 'target, node, listener, reason, result'),
            legend: `${LISTENER} {{reason}} {{result}}`,
          },
        ),
        curves('Length of drains', '99 of 100 drains took no longer.', 's', {
          expr: quantile(0.99, 'drain_duration_seconds', 'target, node, listener'),
          legend: LISTENER,
        }),
        curves(
          'Queue pairs',
          'active: hosts are on them. quarantined: they wait for storage that does not answer.',
          'none',
          {
            expr: `sum by (target, node, listener, state) (${of('queue_pairs')})`,
            legend: `${LISTENER} {{state}}`,
          },
        ),
        curves(
          'Times that ports began to serve',
          'Counts up with every recovery: steps are outages.',
          'none',
          {
            expr: `max by (target, node, listener) (${of('epoch')})`,
            legend: LISTENER,
          },
        ),
        curves('Errors of devices', 'Fatal errors of RDMA devices; that one was removed is one.', 'none', {
          expr: counted('device_fatal_total', 'target, node, listener, device'),
          legend: `${LISTENER} {{device}}`,
        }),
        curves('Events of devices', 'Asynchronous events as the device reports them.', 'none', {
          expr: counted('async_events_total', 'target, node, listener, type'),
          legend: `${LISTENER} {{type}}`,
        }),
      ],
    },
    {
      title: 'Hosts',
      panels: [
        curves('Hosts connected', 'Controllers: a host counts once for each path.', 'none', {
          expr: `sum by (target, node) (${of('hosts_connected')})`,
          legend: '{{target}} {{node}}',
        }),
        curves('Connects refused', 'By reason. HostNotAllowed: the host is not in access.hosts.', 'none', {
          expr: counted('connects_rejected_total', 'target, node, reason'),
          legend: '{{target}} {{node}} {{reason}}',
        }),
        curves(
          'Hosts lost',
          'Dropped because they kept silent, and refused because they could not prove who they are.',
          'none',
          {
            expr: counted('keepalive_timeouts_total', 'target, node'),
            legend: '{{target}} {{node}} keep-alive',
          },
          {
            expr: counted('authentication_failures_total', 'target, node'),
            legend: '{{target}} {{node}} authentication',
          },
        ),
      ],
    },
    {
      title: 'I/O',
      panels: [
        curves('Commands', 'Completed, by kind.', 'ops', {
          expr: perSecond('operations_total', 'target, op'),
          legend: '{{target}} {{op}}',
        }),
        curves('Throughput', 'Data of completed commands, by kind.', 'Bps', {
          expr: perSecond('bytes_total', 'target, op'),
          legend: '{{target}} {{op}}',
        }),
        curves(
          'Latency',
          'Half of the commands, and 99 of 100, took no longer: arrival to completion sent.',
          's',
          {
            expr: quantile(0.5, 'operation_duration_seconds', 'target, op'),
            legend: '{{target}} {{op}} p50',
          },
          {
            expr: quantile(0.99, 'operation_duration_seconds', 'target, op'),
            legend: '{{target}} {{op}} p99',
          },
        ),
        curves('Errors', 'Commands answered with an error, by NVMe status.', 'ops', {
          expr: perSecond('errors_total', 'target, status'),
          legend: '{{target}} {{status}}',
        }),
        curves('Namespaces', 'By state; Failed ones answer with errors.', 'none', {
          expr: `sum by (target, node, state) (${of('namespaces')})`,
          legend: '{{target}} {{node}} {{state}}',
        }),
        curves(
          'Poller threads',
          'Share of its time that a thread had work; near 1 all the time: give the target more cores.',
          'percentunit',
          {
            expr: of('poll_busy_ratio'),
            legend: '{{target}} {{node}} {{poller}}',
          },
        ),
      ],
    },
    {
      title: 'Memory and the core',
      panels: [
        curves('Registered memory', 'Memory that devices may reach.', 'bytes', {
          expr: `sum by (target, node, listener) (${of('memory_registered_bytes')})`,
          legend: LISTENER,
        }),
        curves(
          'Registrations of memory',
          'failed: the port serves with less memory, or tries until it can.',
          'none',
          {
            expr: counted('memory_registrations_total', 'target, node, listener, result'),
            legend: `${LISTENER} {{result}}`,
          },
        ),
        curves('Data buffers', 'free at 0: commands wait for one.', 'none', {
          expr: `sum by (target, node, state) (${of('buffers')})`,
          legend: '{{target}} {{node}} {{state}}',
        }),
        curves(
          'What should never grow',
          'RDMA objects that could not be destroyed, and events of the core that were lost.',
          'none',
          {
            expr: `sum by (target, node) (${of('leaked_verbs_objects')})`,
            legend: '{{target}} {{node}} leaked objects',
          },
          {
            expr: counted('event_ring_dropped_total', 'target, node'),
            legend: '{{target}} {{node}} lost events',
          },
        ),
        curves('Late completions', 'Of work that an outage had already ended; dropped.', 'none', {
          expr: counted('stale_completions_total', 'target, node, listener'),
          legend: LISTENER,
        }),
        curves(
          'Versions',
          'One curve for each version that runs: more than one for long is a rollout that hangs.',
          'none',
          {
            expr: `count by (version) (${of('build_info')})`,
            legend: '{{version}}',
          },
        ),
      ],
    },
  ],
};
