/** A small HTTP server that answers lists and watches of one resource as a test tells it to. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';

/** Answers one request. */
export type Answer = (response: ServerResponse, url: URL, request: IncomingMessage) => void;

/** Sends JSON and ends the answer. */
export function sendJson(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

/** Sends a line of a watch and keeps the answer open. */
export function sendEvent(response: ServerResponse, type: string, object: unknown): void {
  if (!response.headersSent) response.writeHead(200, { 'content-type': 'application/json' });
  response.write(`${JSON.stringify({ type, object })}\n`);
}

/** The server. Requests beyond the answers that were queued get the last one again. */
export class FakeApiServer {
  readonly requests: URL[] = [];
  lists: Answer[] = [];
  watches: Answer[] = [];
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Starts one on loopback. */
  static async start(): Promise<FakeApiServer> {
    const server = createServer();
    const fake = new FakeApiServer(server);
    server.on('request', (request, response) => fake.#handle(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return fake;
  }

  /** A kubeconfig that points here. */
  get config(): KubeConfig {
    const { port } = this.#server.address() as AddressInfo;
    const config = new KubeConfig();
    config.loadFromOptions({
      // client-node takes plain HTTP only when told that there is nothing to verify.
      clusters: [{ name: 'fake', server: `http://127.0.0.1:${port}`, skipTLSVerify: true }],
      users: [{ name: 'fake' }],
      contexts: [{ name: 'fake', cluster: 'fake', user: 'fake' }],
      currentContext: 'fake',
    });
    return config;
  }

  /** Cuts every connection, as a network would. */
  resetConnections(): void {
    this.#server.closeAllConnections();
  }

  /** Ends the server. */
  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://fake');
    this.requests.push(url);
    const answers = url.searchParams.get('watch') === 'true' ? this.watches : this.lists;
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer === undefined) sendJson(response, { reason: 'NotFound' }, 404);
    else answer(response, url, request);
  }
}
