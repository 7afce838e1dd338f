/** /metrics, /healthz and /readyz. */
import type { Server, ServerResponse } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import { createEndpointServer, type EndpointProtection, guardMetrics } from './endpoint-server.ts';

/** A probe: undefined when all is well, else what is wrong. */
export type Probe = () => string | undefined;

/** What is served. */
export interface HttpServerOptions extends EndpointProtection {
  /** `host:port`; port 0 takes a free one. */
  readonly address: string;
  readonly registry: Registry;
  readonly healthy: Probe;
  readonly ready: Probe;
  /** Told when the certificate was read anew: what is wrong with it, if something is. */
  readonly onReload?: (problem: string | undefined) => void;
}

/** A request line and headers arrive within this time, or the connection is closed. */
const HEADERS_TIMEOUT_MS = 10_000;

function answer(
  response: ServerResponse,
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': type });
  response.end(body);
}

function answerProbe(response: ServerResponse, probe: Probe): void {
  const problem = probe();
  answer(response, problem === undefined ? 200 : 503, `${problem ?? 'ok'}\n`);
}

/** Splits `host:port`; the host may be an IPv6 address in brackets. */
export function parseAddress(address: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:]*)):([0-9]{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw new Error(`"${address}" is not an address: write host:port, like 0.0.0.0:8080 or [::1]:8080`);
  }
  return { host: match[1] ?? (match[2] === '' ? '0.0.0.0' : (match[2] ?? '0.0.0.0')), port };
}

/** Serves until the returned server is closed. Resolves once it listens; rejects when it cannot. */
export function serveHttp(options: HttpServerOptions): Promise<{ server: Server | TlsServer; port: number }> {
  const { host, port } = parseAddress(options.address);
  const serveMetrics = (response: ServerResponse) =>
    options.registry.metrics().then(
      (text) => answer(response, 200, text, options.registry.contentType),
      (error: unknown) => answer(response, 500, `${String(error)}\n`),
    );
  const server = createEndpointServer(
    options.tlsDirectory,
    (request, response) => {
      const path = request.url?.split('?')[0];
      if (request.method !== 'GET' && request.method !== 'HEAD')
        answer(response, 405, 'only GET is served\n');
      else if (path === '/healthz') answerProbe(response, options.healthy);
      else if (path === '/readyz') answerProbe(response, options.ready);
      else if (path === '/metrics')
        void guardMetrics(options.access, request, response, () => void serveMetrics(response));
      else answer(response, 404, 'not found: /metrics, /healthz and /readyz are served\n');
    },
    options.onReload ?? (() => undefined),
  );
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => resolve({ server, port: (server.address() as AddressInfo).port }));
  });
}
