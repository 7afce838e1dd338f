/**
 * Leader election by a Lease. Whether another replica's lease has run out is judged by the time since *we* saw it
 * change, never by its timestamps: clocks of nodes differ.
 */
import type { Logger } from 'pino';
import { isConflict } from '../kubernetes/api-error.ts';
import { sleep } from '../kubernetes/backoff.ts';
import { microTime } from '../kubernetes/micro-time.ts';
import type { Lease, LeaseStore } from './lease.ts';

/** How long a lease holds and how often it is renewed. */
export interface LeaderElectionTimes {
  /** Others wait this long after the last renewal they saw. */
  readonly leaseSeconds: number;
  /**
   * A leader writes nothing, and steps down, this long after it began its last renewal that succeeded. Shorter than
   * the lease, which others count from later: never two at once.
   */
  readonly renewDeadlineSeconds: number;
  /** From the start of one renewal to the next. A replica that waits looks twice as often. */
  readonly retrySeconds: number;
}

/**
 * Lease and renewals are those of Kubernetes' own controllers. The deadline is 2 s longer than theirs, which count it
 * from the end of the last renewal: a leader outlives answers that take 5 s each.
 */
export const LEADER_ELECTION_TIMES: LeaderElectionTimes = {
  leaseSeconds: 15,
  renewDeadlineSeconds: 12,
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

interface Begun {
  readonly ms: number;
  readonly abandoned: AbortSignal | undefined;
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
  /** Whether the last attempt failed: what is stored may be other than what was observed. */
  #hasFailed = false;

  constructor(options: LeaderElectorOptions) {
    this.#options = options;
    this.#times = options.times ?? LEADER_ELECTION_TIMES;
    this.#monotonicMs = options.monotonicMs ?? (() => performance.now());
  }

  /** Whether this replica leads. */
  get isLeader(): boolean {
    return this.#isLeader;
  }

  /** Whether a write that begins now belongs to the leader: the lease is this replica's and cannot have run out. */
  get mayWrite(): boolean {
    return this.#isLeader && this.#remainingMs() > 0;
  }

  /** Waits until this replica leads. Returns false when the signal aborts first. */
  async acquire(signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted) {
      if ((await this.#attemptWithin(this.#times.renewDeadlineSeconds * 1000)) === 'held') return true;
      // Jitter keeps replicas that wait for the same lease from colliding again and again.
      const jitter = 0.8 + (this.#options.random ?? Math.random)() * 0.4;
      await sleep((this.#times.retrySeconds / 2) * 1000 * jitter, signal);
    }
    return false;
  }

  /** Renews until leadership is lost or the signal aborts. */
  async hold(signal: AbortSignal): Promise<'lost' | 'aborted'> {
    let startedMs = this.#monotonicMs();
    while (!signal.aborted) {
      await sleep(startedMs + this.#times.retrySeconds * 1000 - this.#monotonicMs(), signal);
      if (signal.aborted) break;
      startedMs = this.#monotonicMs();
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

  /** One attempt to acquire or renew; its outcome counts for nothing once `abandoned` aborts. Never rejects. */
  async attempt(abandoned?: AbortSignal): Promise<Attempt> {
    // Taken before the request: the lease must not seem to hold longer than its readers believe.
    const begun: Begun = { ms: this.#monotonicMs(), abandoned };
    try {
      return (await this.#renewKnown(begun)) ?? (await this.#readAndTake(begun));
    } catch (error) {
      this.#hasFailed = true;
      this.#options.logger.warn({ err: error }, 'could not acquire or renew the leader lease');
      return 'failed';
    }
  }

  /** Renews what this replica wrote last, in one request; undefined when that is not what is stored. */
  async #renewKnown(begun: Begun): Promise<Attempt | undefined> {
    const known = this.#observed;
    if (!this.#isLeader || this.#hasFailed || known === undefined) return undefined;
    try {
      return this.#won(await this.#renew(known), begun);
    } catch (error) {
      if (isConflict(error)) return undefined;
      throw error;
    }
  }

  async #readAndTake(begun: Begun): Promise<Attempt> {
    const { store, identity } = this.#options;
    const current = await store.read();
    const now = microTime(this.#now());
    const fresh = {
      holderIdentity: identity,
      leaseDurationSeconds: this.#times.leaseSeconds,
      acquireTime: now,
      renewTime: now,
      leaseTransitions: 0,
    };
    if (current === undefined) return this.#won(await store.create(fresh), begun);
    this.#observe(current);
    const holder = current.spec?.holderIdentity ?? '';
    if (holder === identity) return this.#won(await this.#renew(current), begun);
    if (holder !== '' && !this.#hasExpired(current)) return 'taken';
    const leaseTransitions = (current.spec?.leaseTransitions ?? 0) + 1;
    return this.#won(await store.replace(current, { ...fresh, leaseTransitions }), begun);
  }

  #renew(lease: Lease): Promise<Lease> {
    return this.#options.store.replace(lease, { ...lease.spec, renewTime: microTime(this.#now()) });
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
    const result = await Promise.race([this.attempt(done.signal), late]);
    // Of an attempt that hangs it is not known whether its write arrives.
    if (result === 'failed') this.#hasFailed = true;
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

  #won(lease: Lease, begun: Begun): Attempt {
    if (begun.abandoned?.aborted === true) return 'failed';
    this.#observe(lease);
    this.#hasFailed = false;
    this.#renewedAtMs = begun.ms;
    if (!this.#isLeader) this.#options.logger.info({ identity: this.#options.identity }, 'became leader');
    this.#isLeader = true;
    return 'held';
  }
}
