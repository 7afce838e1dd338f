import type { Logger } from 'pino';
import type { NvmeofTargetNodeStatus } from '../../crds/nvmeof-target-node.ts';

import { TokenBucket } from './token-bucket.ts';

/** Shortest time between two writes. */
const writeIntervalMilliseconds = 1000;

/** So many changes are written as they come… */
const writeBurst = 10;

/** …and after that one in this time: a link that flaps for hours must not become load on the API server. */
const millisecondsPerWrite = 5000;

/** Longest pause after failed writes. */
const retryMillisecondsMax = 30_000;

/** Writes a status to the API server; rejects if it cannot. */
export type ApplyStatus = (status: NvmeofTargetNodeStatus) => Promise<void>;

/**
 * Keeps the status in the cluster as it is here: looks once a second, writes only what changed, every five seconds if
 * it changes all the time, and tries again after a failure, later and later.
 */
export class StatusWriter {
  readonly #build: () => NvmeofTargetNodeStatus | undefined;
  readonly #apply: ApplyStatus;
  readonly #logger: Logger;
  readonly #writes = new TokenBucket(writeBurst, millisecondsPerWrite);
  #written = '';
  #failures = 0;
  #notBefore = 0;
  #writing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param build makes the status as of now; `undefined` while there is nothing to report on. */
  constructor(build: () => NvmeofTargetNodeStatus | undefined, apply: ApplyStatus, logger: Logger) {
    this.#build = build;
    this.#apply = apply;
    this.#logger = logger;
  }

  /** Begins to look. */
  start(): void {
    this.#timer = setInterval(() => {
      if (Date.now() >= this.#notBefore) void this.#write(false);
    }, writeIntervalMilliseconds);
  }

  /** Looks no more, and writes the last state once. Resolves in any case. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
    await this.#write(true);
  }

  /** Someone else may have changed the object (it was deleted and made again): the next look writes. */
  forget(): void {
    this.#written = '';
  }

  #write(last: boolean): Promise<void> {
    this.#writing ??= this.#writeChange(last).finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  async #writeChange(last: boolean): Promise<void> {
    try {
      const status = this.#build();
      if (status === undefined) return;
      const text = JSON.stringify(status);
      if (text === this.#written) return;
      if (!last && !this.#writes.take(Date.now())) return;
      await this.#apply(status);
      this.#written = text;
      this.#failures = 0;
      this.#notBefore = Date.now() + writeIntervalMilliseconds;
    } catch (error) {
      this.#failures += 1;
      const pause = Math.min(writeIntervalMilliseconds * 2 ** this.#failures, retryMillisecondsMax);
      this.#notBefore = Date.now() + pause;
      // Once loudly, then quietly: an API server that is away is away for every dataplane.
      const level = this.#failures === 1 ? 'warn' : 'debug';
      const message = error instanceof Error ? error.message : String(error);
      this.#logger[level]({ failures: this.#failures, retryInMs: pause }, `status not written: ${message}`);
    }
  }
}
