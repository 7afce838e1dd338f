/** Limits how often something is done: a burst at once, then a steady rate. Told the time, so that tests can be. */
export class TokenBucket {
  readonly #capacity: number;
  readonly #millisecondsPerToken: number;
  #tokens: number;
  #filledAtMs: number | undefined;

  /** @param capacity how much may be done at once; full at first. */
  constructor(capacity: number, millisecondsPerToken: number) {
    this.#capacity = capacity;
    this.#millisecondsPerToken = millisecondsPerToken;
    this.#tokens = capacity;
  }

  /** Whether it may be done now; if so, it counts as done. */
  take(nowMs: number): boolean {
    const elapsed = Math.max(0, nowMs - (this.#filledAtMs ?? nowMs));
    this.#filledAtMs = nowMs;
    this.#tokens = Math.min(this.#capacity, this.#tokens + elapsed / this.#millisecondsPerToken);
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
