/**
 * Requests to the API server: plain JSON in and out, one error type, a limit on every wait.
 *
 * The kubeconfig (certificates, token files, exec plugins) is client-node's; the requests are ours, because its
 * generated clients build a connection pool for every request, cannot apply to a subresource of any kind, and its
 * watch hides the body of a refusal.
 */
import { createHash } from 'node:crypto';
import {
  type ClientRequestArgs,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http';
import {
  Agent as HttpsAgent,
  type RequestOptions as HttpsRequestOptions,
  request as httpsRequest,
} from 'node:https';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import type { KubeConfig } from '@kubernetes/client-node';
import { ApiError } from './api-error.ts';

const JSON_TYPE = 'application/json';
const APPLY_TYPE = 'application/apply-patch+yaml';
const MERGE_PATCH_TYPE = 'application/merge-patch+json';

/** No single answer takes longer; the API server's own limit for lists and writes is 60 s. */
const REQUEST_TIMEOUT_MS = 30_000;

/** An answer larger than this is a mistake: a page of 500 objects has some megabytes. */
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;

/** Sockets to one API server: watches hold one each, the rest is for requests. */
const SOCKETS_MAX = 64;

/** Method of a request. */
export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/** Told about every answer: its method and HTTP status, or `<error>` when there was none. */
export type RequestObserver = (method: Method, code: string) => void;

/** Query parameters; undefined ones are left out. */
export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

interface Call {
  readonly method: Method;
  readonly path: string;
  readonly query?: Query | undefined;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal | undefined;
}

/** What the rest of the operator needs of the API server; tests put a fake in its place. */
export interface Api {
  get(path: string, query?: Query, signal?: AbortSignal): Promise<unknown>;
  create(path: string, object: unknown): Promise<unknown>;
  replace(path: string, object: unknown): Promise<unknown>;
  /** Server-side apply; takes over fields from other managers when `force` is set (the default). */
  apply(path: string, object: unknown, fieldManager: string): Promise<unknown>;
  mergePatch(path: string, patch: unknown): Promise<unknown>;
  delete(path: string, options?: unknown): Promise<unknown>;
  /** The lines of a watch, parsed, until the server ends it or `signal` aborts it. */
  watch(path: string, query: Query, signal: AbortSignal): AsyncIterable<unknown>;
}

type OnConnection = (error: Error | null, stream: Duplex) => void;

/** Keeps the TCP socket of each connection of a pool in `sockets` while it is open; a TLS socket cannot be reset. */
function recordSockets(agent: HttpAgent | HttpsAgent, sockets: Set<Socket>): void {
  const createConnection = agent.createConnection.bind(agent);
  agent.createConnection = (options: ClientRequestArgs, callback?: OnConnection) => {
    const socket = connect({ host: options.host ?? 'localhost', port: Number(options.port) });
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    if (!(agent instanceof HttpsAgent)) return socket;
    const secured: ClientRequestArgs & { socket: Socket } = { ...options, socket };
    return createConnection(secured, callback);
  };
}

/** {@link Api} over HTTP. */
export class ApiClient implements Api {
  readonly #config: KubeConfig;
  readonly #observe: RequestObserver;
  #agent: HttpAgent | HttpsAgent | undefined;
  #agentKey = '';
  readonly #sockets = new Set<Socket>();

  constructor(config: KubeConfig, observe: RequestObserver = () => undefined) {
    this.#config = config;
    this.#observe = observe;
  }

  get(path: string, query?: Query, signal?: AbortSignal): Promise<unknown> {
    return this.#json({ method: 'GET', path, query, signal });
  }

  create(path: string, object: unknown): Promise<unknown> {
    return this.#json({ method: 'POST', path, body: object });
  }

  replace(path: string, object: unknown): Promise<unknown> {
    return this.#json({ method: 'PUT', path, body: object });
  }

  apply(path: string, object: unknown, fieldManager: string): Promise<unknown> {
    const query = { fieldManager, force: true };
    return this.#json({ method: 'PATCH', path, query, body: object, contentType: APPLY_TYPE });
  }

  mergePatch(path: string, patch: unknown): Promise<unknown> {
    return this.#json({ method: 'PATCH', path, body: patch, contentType: MERGE_PATCH_TYPE });
  }

  delete(path: string, options?: unknown): Promise<unknown> {
    return this.#json({ method: 'DELETE', path, body: options });
  }

  async *watch(path: string, query: Query, signal: AbortSignal): AsyncGenerator<unknown> {
    const call: Call = { method: 'GET', path, query: { ...query, watch: true }, signal };
    const response = await this.#send(call);
    try {
      if (response.statusCode !== 200) throw await this.#refusal(call, response);
      const failure = new Promise<never>((_, reject) => response.once('error', reject));
      failure.catch(() => undefined); // Raced below; without a reader it must not count as unhandled.
      const lines = createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY })[
        Symbol.asyncIterator
      ]();
      for (;;) {
        const line = await Promise.race([lines.next(), failure]);
        if (line.done === true) return;
        if (line.value !== '') yield JSON.parse(line.value);
      }
    } finally {
      response.destroy();
    }
  }

  /** Closes idle connections; open watches end by their own signal. */
  close(): void {
    this.#agent?.destroy();
  }

  /**
   * Ends every connection by a TCP reset: what lies unsent in this machine's buffers, behind a network that is cut,
   * is dropped and does not arrive when the network is back. Requests under way fail.
   */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
    this.close();
  }

  async #json(call: Call): Promise<unknown> {
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const signal = call.signal === undefined ? timeout : AbortSignal.any([timeout, call.signal]);
    const response = await this.#send({ ...call, signal });
    const status = response.statusCode ?? 0;
    if (status < 200 || status > 299) throw await this.#refusal(call, response);
    const text = await readText(response);
    return text === '' ? undefined : JSON.parse(text);
  }

  async #refusal(call: Call, response: IncomingMessage): Promise<ApiError> {
    const body = await readText(response).catch(() => '');
    return new ApiError(
      `${call.method} ${call.path}`,
      response.statusCode ?? 0,
      body,
      response.headers['retry-after'],
    );
  }

  async #send(call: Call): Promise<IncomingMessage> {
    const cluster = this.#config.getCurrentCluster();
    if (cluster === null) throw new Error('the kubeconfig names no current cluster');
    const url = new URL(cluster.server.replace(/\/$/, '') + call.path);
    for (const [name, value] of Object.entries(call.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const options: HttpsRequestOptions = { headers: {} };
    await this.#config.applyToHTTPSOptions(options);
    const body = call.body === undefined ? undefined : JSON.stringify(call.body);
    // Through a proxy the connections are client-node's, which knows how.
    if (cluster.proxyUrl === undefined) options.agent = this.#agentFor(url, options);
    options.method = call.method;
    options.headers = {
      ...(options.headers as Record<string, string>),
      accept: JSON_TYPE,
      ...(body === undefined ? {} : { 'content-type': call.contentType ?? JSON_TYPE }),
      ...(body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }),
    };
    if (call.signal !== undefined) options.signal = call.signal;
    try {
      const response = await exchange(url, options, body);
      this.#observe(call.method, String(response.statusCode ?? 0));
      return response;
    } catch (error) {
      this.#observe(call.method, '<error>');
      throw error;
    }
  }

  /** One pool of connections for as long as the credentials of the connection stay the same. */
  #agentFor(url: URL, options: HttpsRequestOptions): HttpAgent | HttpsAgent {
    const { ca, cert, key, rejectUnauthorized, servername } = options;
    const hash = createHash('sha256');
    for (const part of [url.origin, ca, cert, key, rejectUnauthorized, servername]) {
      hash.update(`${String(part)}\0`);
    }
    const digest = hash.digest('hex');
    if (this.#agent === undefined || digest !== this.#agentKey) {
      const pool = { keepAlive: true, maxSockets: SOCKETS_MAX };
      this.#agent =
        url.protocol === 'http:'
          ? new HttpAgent(pool)
          : new HttpsAgent({
              ...pool,
              ...(ca === undefined ? {} : { ca }),
              ...(cert === undefined ? {} : { cert }),
              ...(key === undefined ? {} : { key }),
              ...(servername === undefined ? {} : { servername }),
              ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
            });
      recordSockets(this.#agent, this.#sockets);
      this.#agentKey = digest;
    }
    return this.#agent;
  }
}

function exchange(
  url: URL,
  options: HttpsRequestOptions,
  body: string | undefined,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request =
      url.protocol === 'http:'
        ? httpRequest(url, options as RequestOptions, resolve)
        : httpsRequest(url, options, resolve);
    request.on('error', reject);
    request.end(body);
  });
}

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > ANSWER_BYTES_MAX)
      throw new Error(`the API server's answer exceeds ${ANSWER_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
