/** How long edits of targets take to reach the objects of their nodes. */

/** Collects the times of edits that are under way. */
export class EditTimes {
  /** When each target's edit was sent, by the target's key. */
  readonly #begunMs = new Map<string, number>();
  readonly #tookMs = new Map<string, number>();

  /** An edit of the target is sent now. */
  begin(target: string, nowMs: number): void {
    this.#begunMs.set(target, nowMs);
  }

  /** An object of the target shows a new specification: its first since the edit is what the edit led to. */
  arrived(target: string, object: string, nowMs: number): void {
    const begunMs = this.#begunMs.get(target);
    if (begunMs !== undefined && !this.#tookMs.has(object)) this.#tookMs.set(object, nowMs - begunMs);
  }

  /** Milliseconds from the edit to each object that it has reached. */
  get tookMs(): number[] {
    return [...this.#tookMs.values()];
  }
}
