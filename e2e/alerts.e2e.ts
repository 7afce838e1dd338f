/**
 * What Kubernetes and Prometheus show of real trouble: a real Prometheus with the chart's rules, real links, real limits
 * on memory, real storage that hangs. `for` and the windows of the alerts are shortened by the chart's values, so that
 * this takes minutes; the expressions are those that users get, and promtool tests them with the times that users get.
 *
 * Soft RDMA never reports a fatal error of a device: that half of WeirDeviceFatal is tested by promtool and, up to the
 * counter, by the core's tests on a simulated device. A device that is not there, and comes, is real here.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { queriesOf, withEverythingChosen } from '../helm/dashboards/dashboard.ts';
import { DASHBOARDS } from '../helm/dashboards/files.ts';
import { planGuest } from '../lab/guests/plan.ts';
import type { PrometheusClient } from '../lab/monitoring/prometheus.ts';
import { OPERATOR_NAMESPACE } from './deployment.ts';
import { countEvents, downsTold, transitions } from './event-history.ts';
import { startFio } from './fio.ts';
import { type EndToEnd, HOST, IMAGE, NODE, openEndToEnd } from './fixture.ts';
import { mustExec } from './guest-shell.ts';
import { applyTarget, connectHost, deleteTarget } from './main-path.ts';
import { StandaloneTarget } from './standalone-target.ts';
import { waitUntil } from './wait-until.ts';

/** How often Prometheus scrapes and evaluates here. */
const INTERVAL = '3s';
const WINDOW_SECONDS = 30;
const ALERT_TIMEOUT_SECONDS = 90;
const CLEAR_TIMEOUT_SECONDS = WINDOW_SECONDS + 45;

const VALUES = {
  'monitoring.interval': INTERVAL,
  'alerts.rules.WeirLinkDown.for': '6s',
  'alerts.rules.WeirTargetAllPathsDown.for': '6s',
  'alerts.rules.WeirTargetDegraded.for': '6s',
  'alerts.rules.WeirDeviceFatal.for': '6s',
  'alerts.rules.WeirLinkFlapping.for': '6s',
  'alerts.rules.WeirLinkFlapping.window': `${WINDOW_SECONDS}s`,
  'alerts.rules.WeirMemoryRegistrationFailing.for': '6s',
  'alerts.rules.WeirMemoryRegistrationFailing.window': `${WINDOW_SECONDS}s`,
  'alerts.rules.WeirDrainTimedOut.window': `${WINDOW_SECONDS}s`,
};

/** A target outside of the cluster, for trouble that a pod of the example must not have. */
const STANDALONE = { name: 'alerts', target: 'local/alerts', port: 4440, metricsPort: 9940 };
const STANDALONE_NQN = 'nqn.2026-11.dev.weir:alerts';
/** Too little for all buffers of a listener (about 25 MiB), enough for those that it cannot do without. */
const LOCKED_MEMORY_KIB = 12 << 10;
/** A file system of its own, so that it can be frozen without the node. */
const FROZEN_DIRECTORY = '/var/lib/weir/alerts';
/** A device that is not there yet, and the interface that it will be on. */
const LATE_DEVICE = 'rxe9';
const LATE_NETDEV = 'late9';
const DRAIN_TIMEOUT_SECONDS = 3;

const nodeSchema = z.object({
  items: z.tuple([
    z.object({
      metadata: z.object({ name: z.string(), uid: z.string() }),
      status: z.object({
        listeners: z.tuple([
          z.object({
            linkTransitions: z.object({ up: z.number(), down: z.number() }),
            drains: z.object({ completed: z.number(), timedOut: z.number() }),
          }),
        ]),
      }),
    }),
  ]),
});

describe('alerts, Events and conditions', () => {
  let e2e: EndToEnd;
  let prometheus: PrometheusClient;
  let standalone: StandaloneTarget;
  let watching: { stop(): Promise<void> } | undefined;
  /** Statuses of condition LinksUp, and phases of the listener, as the API server told them. */
  const linksUp: string[] = [];
  const phases: string[] = [];

  const active = async (alert: string, labels: Record<string, string> = {}) =>
    (await prometheus.alerts()).filter(
      (one) =>
        one.state === 'firing' &&
        one.labels['alertname'] === alert &&
        Object.entries(labels).every(([name, value]) => one.labels[name] === value),
    );

  const fires = (alert: string, labels: Record<string, string>) =>
    waitUntil(`${alert} to fire`, async () => (await active(alert, labels))[0], {
      timeoutSeconds: ALERT_TIMEOUT_SECONDS,
      // The reason is most often in here.
      describe: () => `the standalone dataplane says: ${standalone.log.slice(-8).join('\n')}`,
    });

  const clears = (alert: string, labels: Record<string, string>) =>
    waitUntil(`${alert} to clear`, async () => (await active(alert, labels)).length === 0 || undefined, {
      timeoutSeconds: CLEAR_TIMEOUT_SECONDS,
    });

  const example = () => ({ target: `${e2e.target.namespace}/${e2e.target.name}` });
  const local = { target: STANDALONE.target };

  const node = async () => {
    const list = await e2e.cluster.get(['nvmeoftargetnodes', '-n', e2e.target.namespace]);
    return nodeSchema.parse(list).items[0];
  };

  /** Sum of a metric of the example target. */
  const metric = async (name: string, matchers = '') => {
    const rows = await prometheus.query(`sum(${name}{target="${example().target}"${matchers}})`);
    return rows[0]?.value;
  };

  /** Events are written within ten seconds, metrics scraped within three: asks until both agree. */
  const agrees = (what: string, compare: () => Promise<string | undefined>) => {
    let difference = 'nothing compared';
    return waitUntil(
      what,
      async () => {
        difference = (await compare()) ?? '';
        return difference === '' ? true : undefined;
      },
      { timeoutSeconds: 40, intervalMilliseconds: 1000, describe: () => difference },
    );
  };

  /** Whether Events, status and metrics count the same; else what they count. */
  const compareCounts = async (): Promise<string | undefined> => {
    const { metadata, status } = await node();
    const events = await e2e.cluster.get(['events.events.k8s.io', '-n', e2e.target.namespace]);
    const told = downsTold(countEvents(events, metadata.uid));
    const [listener] = status.listeners;
    const counted = await metric('weir_target_link_transitions_total', ',direction="down"');
    const drained = await metric('weir_target_drains_total');
    const drains = listener.drains.completed + listener.drains.timedOut;
    const same = told === counted && counted === listener.linkTransitions.down && drained === drains;
    return same
      ? undefined
      : `downs: Events ${told}, metrics ${counted}, status ${listener.linkTransitions.down}; drains: metrics ${drained}, status ${drains}`;
  };

  beforeAll(async () => {
    e2e = await openEndToEnd();
    await applyTarget(e2e.path);
    await connectHost(e2e.path);
    prometheus = await e2e.lab.startPrometheus({
      namespace: OPERATOR_NAMESPACE,
      values: VALUES,
      interval: INTERVAL,
      nodeEndpoints: [{ job: 'standalone', node: NODE, port: STANDALONE.metricsPort }],
    });
    const columns = '{.status.conditions[?(@.type=="LinksUp")].status} {.status.listeners[0].phase}';
    watching = e2e.cluster.watch(
      ['nvmeoftargetnodes', '-n', e2e.target.namespace, '-o', `jsonpath=${columns}{"\\n"}`],
      (line) => {
        const [link = '', phase = ''] = line.split(' ');
        linksUp.push(link);
        phases.push(phase);
      },
    );
    // It takes its time to start, on an emulated node: what it is for comes last.
    await prepareNode();
    standalone = new StandaloneTarget(e2e.shell, NODE, STANDALONE.name, STANDALONE.metricsPort, {
      withoutCapabilities: ['CAP_IPC_LOCK', 'CAP_SYS_RESOURCE'],
      lockedMemoryKiB: LOCKED_MEMORY_KIB,
      metricsForAll: true,
      devicesThatCome: true,
    });
    await standalone.configure(configuration());
    standalone.start(IMAGE);
  });

  afterAll(async () => {
    await watching?.stop();
    await e2e.lab.stopPrometheus();
    await deleteTarget(e2e.path);
  });

  it('are quiet while everything serves, and see every pod', async () => {
    await waitUntil(
      'Prometheus to see operator and dataplane',
      async () => {
        const leading = await prometheus.query('leader_election_master_status == 1');
        return (leading.length === 1 && (await metric('weir_target_listener_up')) === 1) || undefined;
      },
      { timeoutSeconds: 60 },
    );
    expect((await prometheus.alerts()).filter(({ labels }) => labels['target'] === example().target)).toEqual(
      [],
    );
  });

  it('tell of a link that is down: WeirLinkDown, WeirTargetAllPathsDown, LinksUp=False; and that it is up again', async () => {
    await e2e.path.setLink('down');
    const alert = await fires('WeirLinkDown', { ...example(), node: NODE });
    expect(alert.annotations['runbook_url']).toBe('docs/runbooks/WeirLinkDown.md');
    await fires('WeirTargetAllPathsDown', example());
    await e2e.cluster.waitFor(
      `nvmeoftarget/${e2e.target.name}`,
      e2e.target.namespace,
      'jsonpath={.status.conditions[?(@.type=="LinksUp")].reason}=LinkDown',
      30,
    );
    await e2e.path.setLink('up');
    await clears('WeirLinkDown', example());
    await clears('WeirTargetAllPathsDown', example());
    await e2e.cluster.waitFor(
      `nvmeoftarget/${e2e.target.name}`,
      e2e.target.namespace,
      'condition=LinksUp',
      30,
    );
  });

  it('tell the same of one outage: Events, conditions and metrics', async () => {
    await agrees('Events, status and metrics to agree', compareCounts);
    const { metadata } = await node();
    const events = await e2e.cluster.get(['events.events.k8s.io', '-n', e2e.target.namespace]);
    const counts = countEvents(events, metadata.uid);
    expect(Object.fromEntries(counts)).toMatchObject({ LinkDown: 1, LinkUp: 2, DrainCompleted: 1 });
    expect(counts.get('LinkUp')).toBe(await metric('weir_target_link_transitions_total', ',direction="up"'));
    expect(counts.get('DrainCompleted')).toBe(
      await metric('weir_target_drains_total', ',result="completed"'),
    );
    // The last word of each: LinksUp went once to False and back, the phase from Serving by a drain to Serving.
    expect(transitions(linksUp)).toEqual(['True', 'False', 'True']);
    expect([transitions(phases)[0], transitions(phases).at(-1)]).toEqual(['Serving', 'Serving']);
    expect(phases).toContain('Down');
  });

  it('tell of a link that flaps: WeirLinkFlapping and one Event that counts; and when it is over', async () => {
    for (let flap = 0; flap < 4; flap += 1) {
      // At the cable: one message of the kernel's while an interface is down breaks a soft RDMA device for good.
      await e2e.lab.link(NODE, 'down', { from: 'outside' });
      await sleep(1500);
      await e2e.lab.link(NODE, 'up', { from: 'outside' });
      await sleep(1500);
    }
    await fires('WeirLinkFlapping', { ...example(), node: NODE });
    await agrees('Events, status and metrics to agree', compareCounts);
    const { metadata } = await node();
    const events = await e2e.cluster.get(['events.events.k8s.io', '-n', e2e.target.namespace]);
    const counts = countEvents(events, metadata.uid);
    expect(counts.get('LinkDown')).toBe(2);
    expect(counts.get('LinkFlapping')).toBe(3);
    await clears('WeirLinkFlapping', example());
  });

  it('tell of memory that cannot be registered, and of a device that is not there; both heal without a restart', async () => {
    const first = { ...local, listener: 'storage' };
    await fires('WeirTargetDegraded', first);
    await fires('WeirMemoryRegistrationFailing', first);
    await fires('WeirDeviceFatal', { ...local, listener: 'late' });
    expect(await active('WeirDeviceFatal', first)).toEqual([]);

    const limit =
      'prlimit --memlock=unlimited --pid "$(pgrep --newest --full "^node .*weir-dataplane --config")"';
    await mustExec(e2e.shell, NODE, ['sh', '-c', limit]);
    await mustExec(e2e.shell, NODE, [
      'rdma',
      'link',
      'add',
      LATE_DEVICE,
      'type',
      'rxe',
      'netdev',
      LATE_NETDEV,
    ]);
    await clears('WeirTargetDegraded', first);
    await clears('WeirMemoryRegistrationFailing', first);
    await clears('WeirDeviceFatal', local);
  });

  it('tell of a drain that storage holds up: WeirDrainTimedOut; and the port serves again', async () => {
    await e2e.host.connect({ address: planGuest(NODE).rdmaAddress, port: STANDALONE.port }, STANDALONE_NQN);
    const [namespace] = await e2e.host.waitForNamespaces(STANDALONE_NQN, [1]);
    const fio = startFio(e2e.shell, HOST, {
      device: namespace?.device ?? '',
      runtimeSeconds: 120,
      blockSizeBytes: 4096,
      ioDepth: 4,
      sizeBytes: 8 << 20,
      mode: 'verify',
    });
    try {
      const writes = async () =>
        (await standalone.scrape()).sum('weir_target_operations_total', { op: 'write' });
      const before = await writes();
      await waitUntil('writes', async () => (await writes()) > before || undefined, { timeoutSeconds: 60 });
      await mustExec(e2e.shell, NODE, ['fsfreeze', '--freeze', FROZEN_DIRECTORY]);
      await waitUntil(
        'writes to hang',
        async () => {
          const first = await writes();
          await sleep(1000);
          return (await writes()) === first || undefined;
        },
        { timeoutSeconds: 30 },
      );
      await e2e.lab.link(NODE, 'down', { from: 'outside' });
      await fires('WeirDrainTimedOut', { ...local, listener: 'storage' });
    } finally {
      await mustExec(e2e.shell, NODE, ['fsfreeze', '--unfreeze', FROZEN_DIRECTORY]);
      await e2e.lab.link(NODE, 'up', { from: 'outside' });
      await fio.kill();
    }
    await waitUntil(
      'the listener to serve, and the quarantine to end',
      async () => {
        const scrape = await standalone.scrape();
        const up = scrape.sum('weir_target_listener_up', { listener: 'storage' });
        return (up === 1 && scrape.sum('weir_target_buffers', { state: 'quarantined' }) === 0) || undefined;
      },
      { timeoutSeconds: 60 },
    );
    await clears('WeirDrainTimedOut', local);
    await e2e.host.disconnect(STANDALONE_NQN);
    expect(await standalone.stop()).toBe(0);
  });

  it('fill every picture of the dashboards', async () => {
    // What other tests end is seen until it is stale.
    const empty = async () => {
      const asked = DASHBOARDS.flatMap((dashboard) =>
        queriesOf(dashboard).map(({ panel, expr }) => ({
          panel: `${dashboard.title}: ${panel}`,
          expr: withEverythingChosen(expr, dashboard, `${WINDOW_SECONDS}s`),
        })),
      );
      const answers = await Promise.all(
        asked.map(async ({ panel, expr }) => ((await prometheus.query(expr)).length === 0 ? [panel] : [])),
      );
      return answers.flat();
    };
    expect(await empty()).toEqual([]);
    // These answer 0 also where there is nothing to count.
    for (const name of ['weir_target_listener_up', 'weir_target_link_up', 'weir_target_device_healthy'])
      expect(await prometheus.query(name), name).not.toEqual([]);
  });

  /** A file system that can be frozen, and an interface for a device that comes late. */
  async function prepareNode(): Promise<void> {
    const script = [
      'mkdir -p "$1"',
      'truncate -s 64M "$1.img"',
      'mke2fs -q -F -t ext4 "$1.img"',
      'mount -o loop "$1.img" "$1"',
      // The image's own user.
      'chown 65532 "$1"',
      'ip link add "$2" mtu 4200 type dummy',
      'ip address add 10.99.0.1/24 dev "$2"',
      'ip link set "$2" up',
    ];
    await mustExec(e2e.shell, NODE, ['sh', '-c', script.join(' && '), 'sh', FROZEN_DIRECTORY, LATE_NETDEV]);
  }

  function configuration() {
    return {
      nodeName: NODE,
      target: STANDALONE.target,
      listeners: [
        { name: 'storage', addressFrom: { address: planGuest(NODE).rdmaAddress }, port: STANDALONE.port },
        { name: 'late', addressFrom: { rdmaDevice: LATE_DEVICE }, port: STANDALONE.port + 1 },
      ],
      subsystems: [
        {
          nqn: STANDALONE_NQN,
          access: { policy: 'AllowList', hosts: [{ nqn: planGuest(HOST).hostNqn }] },
          namespaces: [
            { nsid: 1, backend: { file: { path: `${FROZEN_DIRECTORY}/disk.img`, sizeBytes: 16 << 20 } } },
          ],
        },
      ],
      link: { drainTimeoutSeconds: DRAIN_TIMEOUT_SECONDS, memoryRegistration: { maxBackoffSeconds: 5 } },
    };
  }
});
