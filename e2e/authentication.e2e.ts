/** A Linux host that must prove by DH-HMAC-CHAP that it has a key: the kernel is the judge of what the core computes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { scrapeTarget } from './dataplane-metrics.ts';
import { type EndToEnd, HOST, NODE, openEndToEnd } from './fixture.ts';
import { mustExec } from './guest-shell.ts';
import { deleteTarget } from './main-path.ts';
import { waitUntil } from './wait-until.ts';

/** Keys that protect nothing: the first bytes count up, or down. */
const HOST_KEY = 'DHHC-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:';
const CONTROLLER_KEY = 'DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:';
const NEXT_HOST_KEY =
  'DHHC-1:03:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P4zODhA=:';
const SECRET = 'host-a-dhchap';
/** Kubelet brings a changed Secret to its pods within about a minute and a half. */
const SECRET_TIMEOUT_SECONDS = 180;

describe('authentication', () => {
  let e2e: EndToEnd;

  const applySecret = (keys: Record<string, string>) =>
    e2e.cluster.apply(
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: SECRET, namespace: e2e.target.namespace },
        stringData: keys,
      }),
    );
  const accepted = () =>
    e2e.cluster.kubectl([
      ...['get', 'nvmeoftargetnode', '-n', e2e.target.namespace, '-o'],
      'jsonpath={.items[0].status.conditions[?(@.type=="Accepted")].message}',
    ]);
  const waitForAccepted = (pattern: RegExp) =>
    waitUntil(
      `condition Accepted to say ${pattern}`,
      async () => pattern.test(await accepted()) || undefined,
      {
        timeoutSeconds: SECRET_TIMEOUT_SECONDS,
      },
    );
  const failures = async () =>
    (await scrapeTarget(e2e.path, NODE)).sum('weir_target_authentication_failures_total', {});
  const connect = (keys: { hostKey?: string; controllerKey?: string }) =>
    e2e.host.connect(e2e.path.address, e2e.target.nqn, keys);
  /** Reads past the page cache: waits for as long as the host holds I/O back. */
  const read = async () => {
    const [namespace] = await e2e.host.waitForNamespaces(e2e.target.nqn, e2e.target.nsids);
    const argv = [
      'dd',
      `if=/dev/${namespace?.device}`,
      'of=/dev/null',
      'bs=4096',
      'count=16',
      'iflag=direct',
    ];
    await mustExec(e2e.shell, HOST, argv, { timeoutSeconds: 120 });
  };

  beforeAll(async () => {
    e2e = await openEndToEnd();
    await e2e.host.prepare();
    const manifest = parse(e2e.target.manifest) as { spec: { access: { hosts: object[] } } };
    const dhchap = { secretRef: { name: SECRET }, dhGroup: 'FFDHE2048', bidirectional: true };
    manifest.spec.access.hosts = [{ nqn: e2e.host.identity.nqn, dhchap }];
    await e2e.cluster.apply(JSON.stringify(manifest));
    const { cluster, target } = e2e;
    await cluster.waitFor(`nvmeoftarget/${target.name}`, target.namespace, 'condition=Ready', 300);
  });

  afterAll(async () => {
    await deleteTarget(e2e.path);
    await e2e.cluster.kubectl(['delete', 'secret', SECRET, '-n', e2e.target.namespace, '--ignore-not-found']);
  });

  it('refuses the host while the Secret is not there, and says what is missing', async () => {
    await waitForAccepted(/Secret host-a-dhchap is not there, or without the key (controllerKey|hostKey)/);
    await expect(connect({ hostKey: HOST_KEY })).rejects.toThrow();
  });

  it('refuses a host without a key, with another key, and counts them', async () => {
    await applySecret({ hostKey: HOST_KEY, controllerKey: CONTROLLER_KEY });
    await waitForAccepted(/served as far as can be/);
    const before = await failures();
    await expect(connect({})).rejects.toThrow();
    await expect(connect({ hostKey: NEXT_HOST_KEY })).rejects.toThrow();
    expect(await e2e.host.controllers(e2e.target.nqn)).toEqual([]);
    await waitUntil('both to be counted', async () => (await failures()) >= before + 2 || undefined, {
      timeoutSeconds: 60,
    });
  });

  it('lets the host in with its key, proves to it who it is, and both do so again after a link flap', async () => {
    await connect({ hostKey: HOST_KEY, controllerKey: CONTROLLER_KEY });
    await read();
    const before = await failures();
    await e2e.path.setLink('down');
    await waitUntil(
      'the host to lose the connection',
      async () =>
        (await e2e.host.controllers(e2e.target.nqn)).some(({ state }) => state !== 'live') || undefined,
      { timeoutSeconds: 60 },
    );
    await e2e.path.setLink('up');
    await read();
    expect(await e2e.host.controllers(e2e.target.nqn)).toMatchObject([{ state: 'live' }]);
    expect(await failures()).toBe(before);
  });

  it('takes up a new key, which from then on is the one that counts', async () => {
    await applySecret({ hostKey: NEXT_HOST_KEY, controllerKey: CONTROLLER_KEY });
    await waitUntil(
      'the new key to be what counts',
      async () => {
        await e2e.host.disconnect(e2e.target.nqn);
        return connect({ hostKey: NEXT_HOST_KEY, controllerKey: CONTROLLER_KEY }).then(
          () => true,
          () => undefined,
        );
      },
      { timeoutSeconds: SECRET_TIMEOUT_SECONDS },
    );
    await read();
  });

  it('refuses the former key from then on, counts it, and still lets the new one in', async () => {
    await e2e.host.disconnect(e2e.target.nqn);
    const before = await failures();
    await expect(connect({ hostKey: HOST_KEY, controllerKey: CONTROLLER_KEY })).rejects.toThrow();
    expect(await e2e.host.controllers(e2e.target.nqn)).toEqual([]);
    await waitUntil('it to be counted', async () => (await failures()) > before || undefined, {
      timeoutSeconds: 60,
    });
    await connect({ hostKey: NEXT_HOST_KEY, controllerKey: CONTROLLER_KEY });
    await read();
  });
});
