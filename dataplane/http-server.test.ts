import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { Health } from './health.ts';
import { parseMetricsAddress, startHttpServer } from './http-server.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function start(readiness: Health): Promise<string> {
  const server = await startHttpServer(
    { host: '127.0.0.1', port: 0 },
    {
      metrics: () => Promise.resolve({ contentType: 'text/plain; version=0.0.4', text: 'up 1\n' }),
      liveness: () => ({ ok: true, problems: [] }),
      readiness: () => readiness,
    },
  );
  servers.push(server);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe('the metrics address', () => {
  it('serves metrics and probes', async () => {
    const url = await start({ ok: false, problems: ['listener storage: Down: LinkDown'] });
    expect(await (await fetch(`${url}/metrics`)).text()).toBe('up 1\n');
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    const ready = await fetch(`${url}/readyz`);
    expect(ready.status).toBe(503);
    expect(await ready.text()).toBe('listener storage: Down: LinkDown\n');
  });

  it('refuses everything else', async () => {
    const url = await start({ ok: true, problems: [] });
    expect((await fetch(`${url}/`)).status).toBe(404);
    expect((await fetch(`${url}/metrics`, { method: 'POST', body: 'x' })).status).toBe(405);
  });

  it('that is in use is named with the way out', async () => {
    const url = await start({ ok: true, problems: [] });
    const port = Number(new URL(url).port);
    const again = startHttpServer(
      { host: '127.0.0.1', port },
      {
        metrics: () => Promise.reject(new Error('never')),
        liveness: () => ({ ok: true, problems: [] }),
        readiness: () => ({ ok: true, problems: [] }),
      },
    );
    await expect(again).rejects.toThrow(
      `the metrics address 127.0.0.1:${port} is in use by another process: choose another with --metrics-address`,
    );
  });

  it.each([
    ['127.0.0.1:9810', { host: '127.0.0.1', port: 9810 }],
    ['[::1]:9810', { host: '::1', port: 9810 }],
    [':9810', { host: '::', port: 9810 }],
  ])('%s is read', (text, address) => {
    expect(parseMetricsAddress(text)).toEqual(address);
  });

  it.each(['9810', 'host', 'a:b', '::1:9810', '[host]:1', '127.0.0.1:99999'])('%s is refused', (text) => {
    expect(() => parseMetricsAddress(text)).toThrow('is no HOST:PORT');
  });
});
