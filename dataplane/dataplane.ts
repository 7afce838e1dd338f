import type { Logger } from 'pino';
import type { Core } from './core/core.ts';
import type { CoreStats } from './core/stats.ts';
import type { DesiredState } from './desired-state.ts';
import { type Health, liveness, readiness } from './health.ts';
import { logCoreEvent } from './logging.ts';
import { type MetricsIdentity, TargetMetrics } from './metrics/target-metrics.ts';

/** What a drain came to. `timedOut`: I/O was still in flight when its time was over. */
export type DrainResult = 'completed' | 'timedOut';

/** How much longer than its own deadline the core is waited for when it drains. */
const drainGraceMilliseconds = 2000;

/** One running dataplane: the core and what is told of it. The same in a cluster and standalone. */
export class Dataplane {
  readonly #core: Core;
  readonly #logger: Logger;
  readonly #metrics = new TargetMetrics();
  readonly #version: string;
  #identity: MetricsIdentity;
  #desired: DesiredState | undefined;
  #leaving = false;

  /** @param identity labels the metrics until a desired state names target and node itself. */
  constructor(core: Core, logger: Logger, identity: MetricsIdentity, version: string) {
    this.#core = core;
    this.#logger = logger;
    this.#identity = identity;
    this.#version = version;
    core.onEvent((event) => {
      logCoreEvent(logger, event);
      this.#metrics.observeEvent(event);
    });
  }

  /** The state that was last accepted. */
  get desired(): DesiredState | undefined {
    return this.#desired;
  }

  /**
   * Serves this from now on, unless it says `paused` while something is served, or the process is leaving.
   *
   * @returns whether it is served.
   * @throws {CoreError} if it is refused as a whole; the former is served on.
   */
  apply(state: DesiredState): boolean {
    if (this.#leaving || (state.spec.paused && this.#desired !== undefined)) return false;
    this.#core.apply(state.generation, state.spec);
    this.#desired = state;
    this.#identity = { target: state.spec.target, node: state.spec.nodeName };
    return true;
  }

  /** Has the core take up what changed beside the desired state: the keys of hosts. */
  reapply(): void {
    if (this.#desired !== undefined && !this.#leaving) {
      this.#core.apply(this.#desired.generation, this.#desired.spec);
    }
  }

  /** Counts a changed desired state that could not be used. */
  countReloadFailure(): void {
    this.#metrics.countReloadFailure();
  }

  /** The core's state and counters. */
  stats(): CoreStats {
    return this.#core.stats();
  }

  /** `/metrics` */
  async metrics(): Promise<{ contentType: string; text: string }> {
    this.#metrics.update(this.stats(), this.#identity, this.#version, this.#desired?.spec);
    const { registry } = this.#metrics;
    return { contentType: registry.contentType, text: await registry.metrics() };
  }

  /** `/healthz` */
  liveness(): Health {
    return liveness(() => this.stats());
  }

  /** `/readyz` */
  readiness(): Health {
    return readiness(() => this.stats());
  }

  /**
   * Leaves in good order: hosts are told, I/O in flight finishes. Bounded by the timeout and a little more,
   * whatever the core does.
   *
   * @param timeoutSeconds default: `link.drainTimeoutSeconds` of the desired state.
   */
  async drain(timeoutSeconds?: number): Promise<DrainResult> {
    this.#leaving = true;
    if (this.#desired === undefined) return 'completed';
    const timeoutMilliseconds = (timeoutSeconds ?? this.#desired.spec.link.drainTimeoutSeconds) * 1000;
    const drained = new Promise<DrainResult>((resolve) => {
      this.#core.onEvent((event) => {
        if (event.known?.type === 'drained') {
          resolve(event.known.result === 'completed' ? 'completed' : 'timedOut');
        }
      });
    });
    this.#logger.info({ timeoutSeconds: timeoutMilliseconds / 1000 }, 'draining');
    this.#core.drain(timeoutMilliseconds);
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<DrainResult>((resolve) => {
      timer = setTimeout(() => resolve('timedOut'), timeoutMilliseconds + drainGraceMilliseconds);
    });
    try {
      return await Promise.race([drained, deadline]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the core. */
  close(): void {
    this.#core.close();
  }
}
