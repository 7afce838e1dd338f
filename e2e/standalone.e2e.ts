import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { planGuest } from '../lab/guests/plan.ts';
import { FLOW_UNTIL_VERIFIED, startFio } from './fio.ts';
import { type EndToEnd, IMAGE, NODE, openEndToEnd } from './fixture.ts';
import { IoRateSampler } from './io-rate.ts';
import { waitForFlow } from './link-flap.ts';
import { StandaloneTarget } from './standalone-target.ts';
import { waitUntil } from './wait-until.ts';

const NQN = 'nqn.2026-11.dev.weir:standalone';
const PORT = 4430;
const METRICS_PORT = 9900;
/** fio is stopped when all has been seen. */
const FIO_LIMIT_SECONDS = 300;

const namespace = (nsid: number) => ({ nsid, backend: { memory: { sizeBytes: 64 << 20 } } });

const configuration = (namespaces: readonly object[], listener: object = {}) => ({
  nodeName: NODE,
  target: 'local/standalone',
  listeners: [
    { name: 'storage', addressFrom: { address: planGuest(NODE).rdmaAddress }, port: PORT, ...listener },
  ],
  subsystems: [
    { nqn: NQN, access: { policy: 'AllowList', hosts: [{ nqn: planGuest('host-a').hostNqn }] }, namespaces },
  ],
});

describe('standalone mode', () => {
  let e2e: EndToEnd;
  let target: StandaloneTarget;

  beforeAll(async () => {
    e2e = await openEndToEnd();
    target = new StandaloneTarget(e2e.shell, NODE, 'standalone', METRICS_PORT);
    await target.configure(configuration([namespace(1), namespace(2)]));
    target.start(IMAGE);
  });

  afterAll(async () => {
    await e2e.host.disconnect(NQN);
  });

  const logged = (pattern: RegExp) =>
    waitUntil(`a log line like ${pattern}`, () => target.log.find((line) => pattern.test(line)), {
      timeoutSeconds: 60,
      describe: () => target.log.slice(-5).join('\n'),
    });

  const serving = () =>
    waitUntil(
      'the listener to serve',
      async () => (await target.scrape()).sum('weir_target_listener_up', {}) === 1 || undefined,
      { timeoutSeconds: 90 },
    );

  it('serves a file with the spec of a NvmeofTargetNode, without a cluster', async () => {
    await serving();
    await e2e.host.prepare();
    await e2e.host.connect({ address: planGuest(NODE).rdmaAddress, port: PORT }, NQN);
    await e2e.host.waitForNamespaces(NQN, [1, 2]);
  });

  it('says what is wrong with a broken file, and goes on serving the last good one', async () => {
    const [first] = await e2e.host.namespaces(NQN);
    const sampler = new IoRateSampler(e2e.shell, e2e.host.guest, first?.device ?? '', 300);
    const fio = startFio(e2e.shell, e2e.host.guest, {
      device: first?.device ?? '',
      runtimeSeconds: FIO_LIMIT_SECONDS,
      blockSizeBytes: 4096,
      ioDepth: 4,
      sizeBytes: 8 << 20,
      mode: 'verify',
    });
    await target.configure('listeners: [unclosed\n');
    await logged(/target\.yaml/);
    await target.configure({ ...configuration([namespace(1), namespace(2)]), listenerz: [] });
    await logged(/listenerz/);
    await waitForFlow([sampler], FLOW_UNTIL_VERIFIED);
    expect(await fio.stop()).toMatchObject({ ok: true });
    await sampler.stop();
  });

  it('removes a namespace under I/O: its I/O fails, the other namespace goes on', async () => {
    const [first, second] = await e2e.host.namespaces(NQN);
    const run = (device: string) =>
      startFio(e2e.shell, e2e.host.guest, {
        device,
        runtimeSeconds: FIO_LIMIT_SECONDS,
        blockSizeBytes: 4096,
        ioDepth: 4,
        sizeBytes: 8 << 20,
        mode: 'verify',
      });
    const kept = run(first?.device ?? '');
    const removed = run(second?.device ?? '');
    const samplers = [first, second].map(
      (namespace) => new IoRateSampler(e2e.shell, e2e.host.guest, namespace?.device ?? '', 300),
    );
    await waitForFlow(samplers, 20);
    await target.configure(configuration([namespace(1)]));
    await e2e.host.waitForNamespaces(NQN, [1]);
    await removed.kill();
    await waitForFlow(samplers.slice(0, 1), FLOW_UNTIL_VERIFIED);
    expect(await kept.stop()).toMatchObject({ ok: true });
    await Promise.all(samplers.map((sampler) => sampler.stop()));
  });

  it('reports an interface that is not there, and serves again when the file is right', async () => {
    await target.configure(configuration([namespace(1)], { addressFrom: { interface: 'absent0' } }));
    await logged(/absent0/);
    await target.configure(configuration([namespace(1)]));
    await serving();
    await waitUntil(
      'the host to be live again',
      async () => (await e2e.host.controllers(NQN)).every(({ state }) => state === 'live') || undefined,
      { timeoutSeconds: 90 },
    );
  });

  it('says that a port is in use, and harms nobody', async () => {
    const second = new StandaloneTarget(e2e.shell, NODE, 'second', METRICS_PORT + 1);
    const clash = configuration([namespace(1)]);
    await second.configure({
      ...clash,
      subsystems: [{ nqn: `${NQN}-second`, access: { policy: 'AnyHost' }, namespaces: [namespace(1)] }],
    });
    second.start(IMAGE);
    await waitUntil('the second to name the port', () => second.log.find((line) => /in use/i.test(line)), {
      timeoutSeconds: 90,
      describe: () => second.log.slice(-5).join('\n'),
    });
    expect((await target.scrape()).sum('weir_target_listener_up', {})).toBe(1);
    await second.stop();
  });

  it('leaves with status 0 when it is asked to', async () => {
    await e2e.host.disconnect(NQN);
    expect(await target.stop()).toBe(0);
  });
});
