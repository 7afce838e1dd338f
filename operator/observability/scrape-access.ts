/**
 * Who may read /metrics: whoever the API server knows by its token and lets `get` the path /metrics.
 *
 * The API server is asked with the scraper's own token (SelfSubjectAccessReview): it authenticates the token and answers
 * for its holder in one request. So neither the operator nor a dataplane needs a permission for this; with TokenReview
 * and SubjectAccessReview every dataplane could ask about every token and every user of the cluster.
 */
import { createHash } from 'node:crypto';
import type { KubeConfig } from '@kubernetes/client-node';
import { ApiClient } from '../kubernetes/api-client.ts';
import { ApiError } from '../kubernetes/api-error.ts';
import { withBearerToken } from '../kubernetes/bearer.ts';

const REVIEW_PATH = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';

/** A yes is good for this long. */
const ALLOWED_MS = 60_000;

/** A no is asked again after this time: somebody may have granted the permission. */
const REFUSED_MS = 10_000;

/** While the API server cannot be asked, a yes is good for this long: metrics matter most when things are down. */
const ALLOWED_UNASKED_MS = 10 * 60_000;

/** Answers that are remembered; the oldest are forgotten first. */
const REMEMBERED_MAX = 64;

/** Questions under way at a time: strangers with invented tokens must not become load on the API server. */
const QUESTIONS_MAX = 4;

/** Longest token that is looked at, in characters: tokens of the API server have about a thousand. */
const TOKEN_LENGTH_MAX = 16_384;

/** What to answer to a request for /metrics. 200: its metrics. */
export interface Verdict {
  readonly status: 200 | 401 | 403 | 503;
  /** Why not, for the person who reads the scraper's log. */
  readonly message: string;
}

/** Asks the API server whether the holder of a token may read /metrics. Rejects when it cannot be asked. */
export type AskForToken = (token: string) => Promise<Verdict>;

const ALLOWED: Verdict = { status: 200, message: '' };
const UNAUTHENTICATED: Verdict = {
  status: 401,
  message: 'metrics are for holders of a token of this cluster: send Authorization: Bearer TOKEN',
};
const UNKNOWN_TOKEN: Verdict = { status: 401, message: 'the API server does not know this token' };
const FORBIDDEN: Verdict = {
  status: 403,
  message: 'this account may not get the nonResourceURL /metrics: bind it to a ClusterRole that allows it',
};
const UNAVAILABLE: Verdict = { status: 503, message: 'the API server cannot be asked about this token now' };

/** {@link AskForToken} of a cluster. */
export function askCluster(config: KubeConfig): AskForToken {
  return async (token) => {
    const api = new ApiClient(withBearerToken(config, token));
    try {
      const review = (await api.create(REVIEW_PATH, {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: { nonResourceAttributes: { path: '/metrics', verb: 'get' } },
      })) as { status?: { allowed?: boolean } };
      return review.status?.allowed === true ? ALLOWED : FORBIDDEN;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return UNKNOWN_TOKEN;
      if (error instanceof ApiError && error.status === 403) return FORBIDDEN;
      throw error;
    } finally {
      api.close();
    }
  };
}

interface Remembered {
  readonly verdict: Verdict;
  readonly atMs: number;
}

/** Judges requests for /metrics, and remembers the answers for a short time. */
export class ScrapeAccess {
  readonly #ask: AskForToken;
  readonly #now: () => number;
  /** By the hash of the token: the token itself is not kept. */
  readonly #remembered = new Map<string, Remembered>();
  readonly #questions = new Map<string, Promise<Verdict>>();

  constructor(ask: AskForToken, now: () => number = Date.now) {
    this.#ask = ask;
    this.#now = now;
  }

  /** @param authorization the header of the request. */
  async judge(authorization: string | undefined): Promise<Verdict> {
    const token = /^bearer +([^\s]+)$/i.exec(authorization ?? '')?.[1];
    if (token === undefined || token.length > TOKEN_LENGTH_MAX) return UNAUTHENTICATED;
    const key = createHash('sha256').update(token).digest('base64');
    const known = this.#remembered.get(key);
    const age = known === undefined ? Number.POSITIVE_INFINITY : this.#now() - known.atMs;
    if (known !== undefined && age < (known.verdict.status === 200 ? ALLOWED_MS : REFUSED_MS)) {
      return known.verdict;
    }
    const allowedBefore = known?.verdict.status === 200 && age < ALLOWED_UNASKED_MS;
    try {
      return await this.#question(key, token);
    } catch {
      return allowedBefore ? ALLOWED : UNAVAILABLE;
    }
  }

  #question(key: string, token: string): Promise<Verdict> {
    const asked = this.#questions.get(key);
    if (asked !== undefined) return asked;
    if (this.#questions.size >= QUESTIONS_MAX) return Promise.reject(new Error('too many questions'));
    const question = this.#ask(token)
      .then((verdict) => {
        this.#remember(key, verdict);
        return verdict;
      })
      .finally(() => this.#questions.delete(key));
    this.#questions.set(key, question);
    return question;
  }

  #remember(key: string, verdict: Verdict): void {
    this.#remembered.delete(key);
    this.#remembered.set(key, { verdict, atMs: this.#now() });
    const refused = [...this.#remembered].find(
      ([
        ,
        {
          verdict: { status },
        },
      ]) => status !== 200,
    )?.[0];
    const oldest = refused ?? this.#remembered.keys().next().value;
    if (this.#remembered.size > REMEMBERED_MAX && oldest !== undefined) this.#remembered.delete(oldest);
  }
}
