/**
 * Leader election by a Lease. Whether another replica's lease has run out is judged by the time since *we* saw it
 * change, never by its timestamps: clocks of nodes differ.
 */
import type { Logger } from 'pino';
import { sleep } from '../kubernetes/backoff.ts';
import { microTime } from '../kubernetes/micro-time.ts';
import type { Lease, LeaseStore } from './lease.ts';

/** How long a lease holds and how often it is renewed. */
export interface LeaderElectionTimes {
  /** Others wait this long after the last renewal they saw. */
  readonly leaseSeconds: number;
  /** A leader that could not renew for this long steps down. Shorter than the lease: never two at once. */
  readonly renewDeadlineSeconds: number;
  /** Pause between two attempts to acquire or renew. */
  readonly retrySeconds: number;
}

/** The times that controllers of Kubernetes itself use. */
export const LEADER_ELECTION_TIMES: LeaderElectionTimes = {
  leaseSeconds: 15,
  renewDeadlineSeconds: 10,
  retrySeconds: 2,
};

/** What an elector needs. */
export interface LeaderElectorOptions {
  readonly store: LeaseStore;
  /** Unlike that of any other replica, also of an earlier life of this one. */
  readonly identity: string;
  readonly logger: Logger;
  readonly times?: LeaderElectionTimes;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonicMs?: () => number;
  readonly wallClock?: () => Date;
  readonly random?: () => number;
}

/** How one attempt went. */
type Attempt = 'held' | 'taken' | 'failed';

/** See the module's comment. */
export class LeaderElector {
  readonly #options: LeaderElectorOptions;
  readonly #times: LeaderElectionTimes;
  readonly #monotonicMs: () => number;
  #observed: Lease | undefined;
  #observedAtMs = 0;
  #renewedAtMs = 0;
  #isLeader = false;

  constructor(options: LeaderElectorOptions) {
    this.#options = options;
    this.#times = options.times ?? LEADER_ELECTION_TIMES;
    this.#monotonicMs = options.monotonicMs ?? (() => performance.now());
  }

  /** Whether this replica leads. */
  get isLeader(): boolean {
    return this.#isLeader;
  }

  /** Waits until this replica leads. Returns false when the signal aborts first. */
  async acquire(signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted) {
      if ((await this.attempt()) === 'held') return true;
      // Jitter keeps replicas that wait for the same lease from colliding again and again.
      const jitter = 1 + (this.#options.random ?? Math.random)() * 0.2;
      await sleep(this.#times.retrySeconds * 1000 * jitter, signal);
    }
    return false;
  }

  /** Renews until leadership is lost or the signal aborts. */
  async hold(signal: AbortSignal): Promise<'lost' | 'aborted'> {
    while (!signal.aborted) {
      await sleep(this.#times.retrySeconds * 1000, signal);
      if (signal.aborted) break;
      const attempt = await this.#attemptWithin(this.#remainingMs());
      if (attempt === 'taken' || (attempt === 'failed' && this.#remainingMs() <= 0)) {
        this.#isLeader = false;
        return 'lost';
      }
    }
    return 'aborted';
  }

  /** Gives the lease up, so that another replica need not wait for it to run out. */
  async release(): Promise<void> {
    const lease = this.#observed;
    if (!this.#isLeader || lease === undefined) return;
    this.#isLeader = false;
    const now = microTime(this.#now());
    await this.#options.store.replace(lease, {
      holderIdentity: '',
      leaseDurationSeconds: 1,
      acquireTime: now,
      renewTime: now,
      leaseTransitions: lease.spec?.leaseTransitions ?? 0,
    });
  }

  /** One attempt to acquire or renew. Never rejects. */
  async attempt(): Promise<Attempt> {
    const { store, identity, logger } = this.#options;
    // Taken before the request: the lease must not seem to hold longer than its readers believe.
    const startedMs = this.#monotonicMs();
    try {
      const current = await store.read();
      const now = microTime(this.#now());
      const fresh = {
        holderIdentity: identity,
        leaseDurationSeconds: this.#times.leaseSeconds,
        acquireTime: now,
        renewTime: now,
        leaseTransitions: 0,
      };
      if (current === undefined) return this.#won(await store.create(fresh), startedMs);
      this.#observe(current);
      const holder = current.spec?.holderIdentity ?? '';
      if (holder === identity) {
        return this.#won(await store.replace(current, { ...current.spec, renewTime: now }), startedMs);
      }
      if (holder !== '' && !this.#hasExpired(current)) return 'taken';
      const leaseTransitions = (current.spec?.leaseTransitions ?? 0) + 1;
      return this.#won(await store.replace(current, { ...fresh, leaseTransitions }), startedMs);
    } catch (error) {
      logger.warn({ err: error }, 'could not acquire or renew the leader lease');
      return 'failed';
    }
  }

  #now(): Date {
    return this.#options.wallClock?.() ?? new Date();
  }

  #remainingMs(): number {
    return this.#renewedAtMs + this.#times.renewDeadlineSeconds * 1000 - this.#monotonicMs();
  }

  /** An attempt that hangs counts as failed once the deadline is over. */
  async #attemptWithin(milliseconds: number): Promise<Attempt> {
    const done = new AbortController();
    const late = sleep(Math.max(0, milliseconds), done.signal).then((): Attempt => 'failed');
    const result = await Promise.race([this.attempt(), late]);
    done.abort();
    return result;
  }

  #observe(lease: Lease): void {
    if (this.#observed?.metadata.resourceVersion === lease.metadata.resourceVersion) return;
    this.#observed = lease;
    this.#observedAtMs = this.#monotonicMs();
  }

  #hasExpired(lease: Lease): boolean {
    const seconds = lease.spec?.leaseDurationSeconds ?? this.#times.leaseSeconds;
    return this.#monotonicMs() >= this.#observedAtMs + seconds * 1000;
  }

  #won(lease: Lease, startedMs: number): Attempt {
    this.#observe(lease);
    this.#renewedAtMs = startedMs;
    if (!this.#isLeader) this.#options.logger.info({ identity: this.#options.identity }, 'became leader');
    this.#isLeader = true;
    return 'held';
  }
}
