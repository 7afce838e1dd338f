/** The API as a replica may use it: everybody reads, the leader writes. */
import type { Api, Query } from '../kubernetes/api-client.ts';

/** A write was begun by a replica that does not lead, or no longer. */
export class NotLeaderError extends Error {
  /** Stable name of this kind of error. */
  readonly code = 'WEIR_NOT_LEADER';

  /** @param request What was asked, e.g. `PATCH /api/v1/…`. */
  constructor(request: string) {
    super(`${request}: not sent, this replica does not lead (any more)`);
    this.name = 'NotLeaderError';
  }
}

/**
 * Refuses writes unless `mayWrite` at the moment at which each begins. Work that was begun as leader and goes on later
 * than it should (a process that was stopped for a while, a wait for other requests) thus ends without harm.
 */
export class FencedApi implements Api {
  readonly #api: Api;
  readonly #mayWrite: () => boolean;

  constructor(api: Api, mayWrite: () => boolean) {
    this.#api = api;
    this.#mayWrite = mayWrite;
  }

  get(path: string, query?: Query, signal?: AbortSignal): Promise<unknown> {
    return this.#api.get(path, query, signal);
  }

  watch(path: string, query: Query, signal: AbortSignal): AsyncIterable<unknown> {
    return this.#api.watch(path, query, signal);
  }

  create(path: string, object: unknown): Promise<unknown> {
    return this.#write(`POST ${path}`, () => this.#api.create(path, object));
  }

  replace(path: string, object: unknown): Promise<unknown> {
    return this.#write(`PUT ${path}`, () => this.#api.replace(path, object));
  }

  apply(path: string, object: unknown, fieldManager: string): Promise<unknown> {
    return this.#write(`PATCH ${path}`, () => this.#api.apply(path, object, fieldManager));
  }

  mergePatch(path: string, patch: unknown): Promise<unknown> {
    return this.#write(`PATCH ${path}`, () => this.#api.mergePatch(path, patch));
  }

  delete(path: string, options?: unknown): Promise<unknown> {
    return this.#write(`DELETE ${path}`, () => this.#api.delete(path, options));
  }

  async #write(request: string, send: () => Promise<unknown>): Promise<unknown> {
    if (!this.#mayWrite()) throw new NotLeaderError(request);
    return await send();
  }
}
