/** A way to the real API server on which tests make things go wrong, and which records what was asked. */
import {
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type Server,
  type ServerResponse,
} from 'node:http';
import { Agent, request as httpsRequest, type RequestOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';

/** A request as it came. */
export interface RecordedRequest {
  readonly method: string;
  readonly path: string;
  readonly isWatch: boolean;
}

/** What goes wrong with a request. */
export type Fault =
  | {
      readonly kind: 'refuse';
      readonly status: number;
      readonly reason: string;
      readonly retryAfterSeconds?: number;
    }
  | { readonly kind: 'delay'; readonly milliseconds: number };

/** The way. It speaks plain HTTP to the client and is an administrator to the API server. */
export class FaultyApi {
  /** Every request since the start, or since a test emptied it. */
  requests: RecordedRequest[] = [];
  /** Decides what goes wrong; nothing by default. */
  faultOf: (request: RecordedRequest) => Fault | undefined = () => undefined;
  readonly #server: Server;
  readonly #upstream: string;
  readonly #tls: RequestOptions;
  readonly #watches = new Set<ServerResponse>();

  private constructor(server: Server, upstream: string, tls: RequestOptions) {
    this.#server = server;
    this.#upstream = upstream;
    this.#tls = tls;
  }

  /** Starts one on loopback, in front of the API server that `config` points to. */
  static async before(config: KubeConfig): Promise<FaultyApi> {
    const tls: RequestOptions = {};
    await config.applyToHTTPSOptions(tls);
    const { ca, cert, key } = tls;
    const agent = new Agent({
      keepAlive: true,
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    });
    const server = createServer();
    const faulty = new FaultyApi(server, config.getCurrentCluster()?.server ?? '', { agent });
    server.on('request', (request, response) => faulty.#handle(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return faulty;
  }

  /** A kubeconfig that leads here. */
  get config(): KubeConfig {
    const { port } = this.#server.address() as AddressInfo;
    const config = new KubeConfig();
    config.loadFromOptions({
      // client-node takes plain HTTP only when told that there is nothing to verify.
      clusters: [{ name: 'faulty', server: `http://127.0.0.1:${port}`, skipTLSVerify: true }],
      users: [{ name: 'faulty' }],
      contexts: [{ name: 'faulty', cluster: 'faulty', user: 'faulty' }],
      currentContext: 'faulty',
    });
    return config;
  }

  /** Everything asked that is not a watch. */
  get shortRequests(): RecordedRequest[] {
    return this.requests.filter(({ isWatch }) => !isWatch);
  }

  /** Cuts every watch in the middle. */
  resetWatches(): void {
    for (const response of this.#watches) response.socket?.resetAndDestroy();
  }

  /** Ends it. */
  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    (this.#tls.agent as Agent).destroy();
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://faulty');
    const isWatch = url.searchParams.get('watch') === 'true';
    const recorded = { method: request.method ?? '', path: url.pathname, isWatch };
    this.requests.push(recorded);
    const fault = this.faultOf(recorded);
    if (fault === undefined) this.#forward(request, response, isWatch);
    else if (fault.kind === 'delay') {
      setTimeout(() => this.#forward(request, response, isWatch), fault.milliseconds);
    } else refuse(response, fault);
  }

  #forward(request: IncomingMessage, response: ServerResponse, isWatch: boolean): void {
    if (isWatch) {
      this.#watches.add(response);
      response.once('close', () => this.#watches.delete(response));
    }
    const { host: _, connection: __, ...headers } = request.headers;
    const upstream = httpsRequest(
      this.#upstream + (request.url ?? '/'),
      { ...this.#tls, method: request.method ?? 'GET', headers: headers as OutgoingHttpHeaders },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        response.flushHeaders();
        answer.on('error', () => response.destroy());
        answer.pipe(response);
      },
    );
    upstream.on('error', () => response.destroy());
    response.once('close', () => upstream.destroy());
    request.pipe(upstream);
  }
}

function refuse(response: ServerResponse, fault: Extract<Fault, { kind: 'refuse' }>): void {
  const { status: code, reason, retryAfterSeconds } = fault;
  const retryAfter = retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) };
  response.writeHead(code, { 'content-type': 'application/json', ...retryAfter });
  response.end(
    JSON.stringify({ kind: 'Status', status: 'Failure', code, reason, message: 'a test wants it so' }),
  );
}
