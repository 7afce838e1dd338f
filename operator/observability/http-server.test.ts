import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { parseAddress, serveHttp } from './http-server.ts';
import { createOperatorMetrics } from './metrics.ts';

describe('the endpoints', () => {
  it('serve metrics that exist before anything happened, and probes that tell what is wrong', async () => {
    const { registry } = createOperatorMetrics(['pods']);
    const ready = { problem: 'the caches are not filled yet' as string | undefined };
    const { server, port } = await serveHttp({
      address: '127.0.0.1:0',
      registry,
      healthy: () => undefined,
      ready: () => ready.problem,
    });
    try {
      const get = (path: string) => fetch(`http://127.0.0.1:${port}${path}`);
      expect((await get('/healthz')).status).toBe(200);
      expect((await get('/readyz')).status).toBe(503);
      ready.problem = undefined;
      expect((await get('/readyz')).status).toBe(200);
      expect((await get('/other')).status).toBe(404);
      const text = await (await get('/metrics')).text();
      for (const series of [
        'controller_runtime_reconcile_total{controller="nvmeoftarget",result="error"} 0',
        'leader_election_master_status{name="weir-operator"} 0',
        'weir_operator_watch_restarts_total{resource="pods",reason="expired"} 0',
        'workqueue_depth{name="nvmeoftarget"} 0',
      ]) {
        expect(text).toContain(series);
      }
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  it.each(['here', '1.2.3.4:70000', '::1:8080'])('refuse %s as an address', (address) => {
    expect(() => parseAddress(address)).toThrow('is not an address');
  });

  it('take IPv6 in brackets', () => {
    expect(parseAddress('[::1]:8080')).toEqual({ host: '::1', port: 8080 });
  });
});

describe('the log', () => {
  it('never shows a token', async () => {
    const { REDACTION } = await import('./logger.ts');
    let line = '';
    const logger = pino({ redact: REDACTION }, { write: (text: string) => (line = text) });
    logger.info({ request: { headers: { authorization: 'Bearer secret' } }, secret: { data: 'secret' } });
    expect(line).not.toContain('Bearer');
    expect(line).toContain('[redacted]');
  });
});
