/** An API server in memory, for tests: one list, its watches, and a record of what was written. */
import type { Api, Query } from '../../operator/kubernetes/api-client.ts';

/** A request that changes something. */
export interface Write {
  method: 'create' | 'apply' | 'mergePatch';
  path: string;
  body: unknown;
  fieldManager?: string;
}

/** See the head of this file. */
export class FakeApi implements Api {
  readonly writes: Write[] = [];
  readonly listQueries: Query[] = [];
  /** Thrown by every write while it is set. */
  failure: Error | undefined;
  /** Thrown by a write that this says it of, e.g. one with fields that the CRD does not have. */
  refusalOf: (write: Write) => Error | undefined = () => undefined;
  #items: unknown[] = [];
  #version = 1;
  /** Everything that happened, with the version that it led to. */
  readonly #history: { version: number; line: unknown }[] = [];
  #changed = Promise.withResolvers<void>();

  /** Adds or replaces the one object of the list and tells the watches. */
  put(object: { metadata: Record<string, unknown> }): void {
    this.#version += 1;
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#version) } };
    const type = this.#items.length === 0 ? 'ADDED' : 'MODIFIED';
    this.#items = [stored];
    this.#tell({ type, object: stored });
  }

  /** Deletes the object. */
  remove(): void {
    this.#version += 1;
    const [object] = this.#items;
    this.#items = [];
    this.#tell({ type: 'DELETED', object });
  }

  get(_path: string, query: Query = {}): Promise<unknown> {
    this.listQueries.push(query);
    return Promise.resolve({ metadata: { resourceVersion: String(this.#version) }, items: this.#items });
  }

  create(path: string, body: unknown): Promise<unknown> {
    return this.#write({ method: 'create', path, body });
  }

  apply(path: string, body: unknown, fieldManager: string): Promise<unknown> {
    return this.#write({ method: 'apply', path, body, fieldManager });
  }

  mergePatch(path: string, body: unknown): Promise<unknown> {
    return this.#write({ method: 'mergePatch', path, body });
  }

  replace(): Promise<unknown> {
    return Promise.reject(new Error('a dataplane replaces nothing'));
  }

  delete(): Promise<unknown> {
    return Promise.reject(new Error('a dataplane deletes nothing'));
  }

  async *watch(_path: string, query: Query, signal: AbortSignal): AsyncGenerator<unknown> {
    const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    let next = this.#history.findIndex(({ version }) => version > Number(query['resourceVersion']));
    if (next === -1) next = this.#history.length;
    while (!signal.aborted) {
      for (; next < this.#history.length; next += 1) yield this.#history[next]?.line;
      await Promise.race([this.#changed.promise, aborted]);
    }
  }

  #tell(line: unknown): void {
    this.#history.push({ version: this.#version, line });
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }

  #write(write: Write): Promise<unknown> {
    const failure = this.failure ?? this.refusalOf(write);
    if (failure !== undefined) return Promise.reject(failure);
    this.writes.push(write);
    return Promise.resolve(write.body);
  }
}
