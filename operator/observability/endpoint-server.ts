/** The HTTP or HTTPS server below /metrics, /healthz and /readyz, for the operator and for dataplanes. */
import { readFileSync } from 'node:fs';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import { join } from 'node:path';
import { watchFile } from '../system/watch-file.ts';
import type { ScrapeAccess } from './scrape-access.ts';

/** How the endpoints are protected. Probes are open to everybody: the kubelet has no token. */
export interface EndpointProtection {
  /** Directory with `tls.crt` and `tls.key`, as a Secret of type kubernetes.io/tls mounts them; without: plain HTTP. */
  readonly tlsDirectory?: string | undefined;
  /** Who may read /metrics; without: everybody. */
  readonly access?: ScrapeAccess | undefined;
}

/** The certificate or its key cannot be used. The message says which directory, and why. */
export class TlsFilesError extends Error {
  readonly code = 'WEIR_TLS_FILES';
}

function readTls(directory: string): { cert: Buffer; key: Buffer } {
  return { cert: readFileSync(join(directory, 'tls.crt')), key: readFileSync(join(directory, 'tls.key')) };
}

/**
 * A server that does not listen yet. A certificate that changes on disk is taken up for new connections; one that
 * cannot be used is told to `onReload` and the former is kept.
 *
 * @throws {TlsFilesError} if there is no usable certificate at the start.
 */
export function createEndpointServer(
  tlsDirectory: string | undefined,
  listener: RequestListener,
  onReload: (problem: string | undefined) => void,
): Server | TlsServer {
  if (tlsDirectory === undefined) return createServer(listener);
  let server: TlsServer;
  let current: { cert: Buffer; key: Buffer };
  try {
    current = readTls(tlsDirectory);
    server = createTlsServer(current, listener);
  } catch (error) {
    throw new TlsFilesError(`the certificate in ${tlsDirectory} cannot be used: ${messageOf(error)}`);
  }
  const watch = watchFile(join(tlsDirectory, 'tls.crt'), () => {
    try {
      const files = readTls(tlsDirectory);
      if (files.cert.equals(current.cert) && files.key.equals(current.key)) return;
      server.setSecureContext(files);
      current = files;
      onReload(undefined);
    } catch (error) {
      onReload(`the certificate in ${tlsDirectory} cannot be used: ${messageOf(error)}`);
    }
  });
  server.once('close', () => watch.close());
  return server;
}

/** Serves a request for /metrics if its sender may read them, and else answers why not. */
export async function guardMetrics(
  access: ScrapeAccess | undefined,
  request: IncomingMessage,
  response: ServerResponse,
  serve: () => void,
): Promise<void> {
  const verdict = await access?.judge(request.headers.authorization);
  if (verdict === undefined || verdict.status === 200) return serve();
  const challenge = verdict.status === 401 ? { 'www-authenticate': 'Bearer' } : {};
  response.writeHead(verdict.status, { 'content-type': 'text/plain; charset=utf-8', ...challenge });
  response.end(`${verdict.message}\n`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
