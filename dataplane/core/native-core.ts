import { Socket } from 'node:net';
import type { NvmeofTargetNodeSpec } from '../../crds/nvmeof-target-node.ts';
import type { Core, CoreDirectories } from './core.ts';
import { CoreError, coreError } from './errors.ts';
import { type CoreEvent, parseEventLine } from './events.ts';
import { type CoreLibrary, duplicateDescriptor, loadCoreLibrary } from './library.ts';
import { type CoreStats, coreStatsSchema } from './stats.ts';

/** How much the core may hold back for a busy event loop: some thousand events. */
const eventRingBytes = 1024 * 1024;

/** Room for the events of one call; the longest line is far shorter. */
const eventBufferBytes = 256 * 1024;

/** First guess for the size of the statistics: a node with a few listeners and hosts. */
const statsBufferBytes = 64 * 1024;

/** Longest message of an error; the core cuts longer ones. */
const errorBufferBytes = 4096;

/**
 * The native core behind its C ABI.
 *
 * Events: the core's threads put them into a ring and write a byte to a socket pair; its other end is read
 * here by the event loop like any socket, and every byte makes one synchronous call that empties the ring.
 * Native threads never call into JavaScript: they would wait for a busy event loop, and a stop that joins them
 * would wait for ever.
 */
export class NativeCore implements Core {
  readonly #library: CoreLibrary;
  readonly #handle: unknown;
  readonly #wake: Socket;
  readonly #listeners: ((event: CoreEvent) => void)[] = [];
  readonly #eventBuffer = Buffer.allocUnsafe(eventBufferBytes);
  #statsBuffer = Buffer.allocUnsafe(statsBufferBytes);
  #closed = false;

  private constructor(library: CoreLibrary, handle: unknown) {
    this.#library = library;
    this.#handle = handle;
    // The descriptor is the core's, which closes it; a socket here closes its own.
    const descriptor = duplicateDescriptor(library.eventFd(handle));
    this.#wake = new Socket({ fd: descriptor, readable: true, writable: false });
    this.#wake.on('data', () => this.#takeEvents());
    // The other end closes when the core does; what was in the ring then, close() has taken.
    this.#wake.on('error', () => undefined);
  }

  /**
   * Loads the library and starts the core. What the process before left a note to do in the state directory is
   * done first.
   *
   * @throws {CoreError}
   */
  static open(libraryPath: string, nodeName: string, directories: CoreDirectories = {}): NativeCore {
    const library = loadCoreLibrary(libraryPath);
    const options = Buffer.from(JSON.stringify({ nodeName, eventRingBytes, ...directories }));
    const error = errorBuffer();
    const handle: [unknown] = [null];
    const code = library.open(options, options.length, handle, error, error.length);
    if (code !== 0) throw coreError(code, messageIn(error));
    return new NativeCore(library, handle[0]);
  }

  apply(generation: number, spec: NvmeofTargetNodeSpec): void {
    this.#call('apply', { generation, spec });
  }

  drain(timeoutMilliseconds: number): void {
    this.#call('drain', { timeoutMilliseconds });
  }

  stats(): CoreStats {
    this.#assertOpen();
    for (;;) {
      const needed = Number(this.#library.stats(this.#handle, this.#statsBuffer, this.#statsBuffer.length));
      if (needed < 0) throw coreError(needed, 'the core cannot tell its statistics');
      if (needed <= this.#statsBuffer.length) {
        return parseStats(this.#statsBuffer.toString('utf8', 0, needed));
      }
      // A quarter more, because it may have grown again by the next call.
      this.#statsBuffer = Buffer.allocUnsafe(Math.ceil(needed * 1.25));
    }
  }

  onEvent(listener: (event: CoreEvent) => void): void {
    this.#listeners.push(listener);
  }

  close(): void {
    if (this.#closed) return;
    this.#takeEvents();
    this.#closed = true;
    this.#wake.destroy();
    this.#library.close(this.#handle);
  }

  #call(name: 'apply' | 'drain', argument: unknown): void {
    this.#assertOpen();
    const json = Buffer.from(JSON.stringify(argument));
    const error = errorBuffer();
    const code = this.#library[name](this.#handle, json, json.length, error, error.length);
    if (code !== 0) throw coreError(code, messageIn(error));
  }

  #takeEvents(): void {
    if (this.#closed) return;
    for (;;) {
      const length = Number(this.#library.takeEvents(this.#handle, this.#eventBuffer, eventBufferBytes));
      if (length <= 0) return;
      const lines = this.#eventBuffer.toString('utf8', 0, length).split('\n');
      for (const line of lines) if (line !== '') this.#emit(parseEventLine(line));
    }
  }

  #emit(event: CoreEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #assertOpen(): void {
    if (this.#closed) throw new CoreError('WrongState', 'the core is closed');
  }
}

function parseStats(text: string): CoreStats {
  const stats = coreStatsSchema.safeParse(JSON.parse(text));
  if (stats.success) return stats.data;
  const { path, message } = stats.error.issues[0] ?? { path: [], message: 'unreadable' };
  throw new CoreError('Unknown', `the core's statistics are not as expected: ${path.join('.')}: ${message}`);
}

function errorBuffer(): Buffer {
  return Buffer.alloc(errorBufferBytes);
}

/** The text up to the first zero byte. */
function messageIn(buffer: Buffer): string {
  const end = buffer.indexOf(0);
  return buffer.toString('utf8', 0, end === -1 ? buffer.length : end);
}
