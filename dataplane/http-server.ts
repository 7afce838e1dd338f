import type { RequestListener, Server, ServerResponse } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import {
  createEndpointServer,
  type EndpointProtection,
  guardMetrics,
} from '../operator/observability/endpoint-server.ts';
import type { Health } from './health.ts';

/** Where metrics and probes are served. */
export interface MetricsAddress {
  host: string;
  /** 0: any free port. */
  port: number;
}

/** What the server serves. */
export interface HttpContent {
  /** `/metrics`: the text and its content type. */
  metrics(): Promise<{ contentType: string; text: string }>;
  /** `/healthz` */
  liveness(): Health;
  /** `/readyz` */
  readiness(): Health;
}

/** The address for metrics and probes cannot be used. The message says what to do. */
export class MetricsAddressError extends Error {
  readonly code = 'WEIR_METRICS_ADDRESS';
}

/** A probe or a scrape is short; what takes longer than this is a stuck or hostile client. */
const requestTimeoutMilliseconds = 10_000;

/** Probes, a Prometheus or two, a person. */
const connectionsMax = 64;

/**
 * Reads `HOST:PORT`, `[IPV6]:PORT` or `:PORT` (every address).
 *
 * @throws {MetricsAddressError}
 */
export function parseMetricsAddress(text: string): MetricsAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw new MetricsAddressError(`"${text}" is no HOST:PORT, like 127.0.0.1:9810 or [::1]:9810`);
  }
  const host = match[1] ?? match[2] ?? '';
  return { host: host === '' ? '::' : host, port };
}

/**
 * Starts to serve.
 *
 * @param onReload told when the certificate was read anew: what is wrong with it, if something is.
 * @throws {MetricsAddressError} if the address cannot be listened on.
 * @throws {TlsFilesError} if the certificate cannot be used.
 */
export async function startHttpServer(
  address: MetricsAddress,
  content: HttpContent,
  protection: EndpointProtection = {},
  onReload: (problem: string | undefined) => void = () => undefined,
): Promise<Server | TlsServer> {
  const serveMetrics = (response: ServerResponse) =>
    content.metrics().then(
      ({ contentType, text }) => answer(response, 200, text, { 'content-type': contentType }),
      (error: unknown) => answer(response, 500, `${error instanceof Error ? error.message : 'failed'}\n`),
    );
  const listener: RequestListener = (request, response) => {
    const path = (request.url ?? '').split('?', 1)[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      answer(response, 405, 'only GET and HEAD are served here\n', { allow: 'GET, HEAD' });
    } else if (path === '/metrics') {
      void guardMetrics(protection.access, request, response, () => void serveMetrics(response));
    } else if (path === '/healthz') {
      answerHealth(response, content.liveness());
    } else if (path === '/readyz') {
      answerHealth(response, content.readiness());
    } else {
      answer(response, 404, 'there are /metrics, /healthz and /readyz here\n');
    }
  };
  const server = createEndpointServer(protection.tlsDirectory, listener, onReload);
  server.requestTimeout = requestTimeoutMilliseconds;
  server.headersTimeout = requestTimeoutMilliseconds;
  server.maxConnections = connectionsMax;

  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new MetricsAddressError(listenProblem(address, error)));
    });
    server.listen(address.port, address.host, resolve);
  });
  return server;
}

function answerHealth(response: ServerResponse, health: Health): void {
  if (health.ok) answer(response, 200, 'ok\n');
  else answer(response, 503, `${health.problems.join('\n')}\n`);
}

function answer(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers });
  response.end(text);
}

function listenProblem(address: MetricsAddress, error: NodeJS.ErrnoException): string {
  const where = `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
  switch (error.code) {
    case 'EADDRINUSE':
      return `the metrics address ${where} is in use by another process: choose another with --metrics-address`;
    case 'EADDRNOTAVAIL':
      return `this machine has no address ${address.host}: choose another with --metrics-address`;
    case 'EACCES':
      return `the port of the metrics address ${where} needs privileges: choose one above 1023`;
    default:
      return `the metrics address ${where} cannot be used: ${error.message}`;
  }
}
