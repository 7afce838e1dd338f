/**
 * Finds the targets that may stand in each other's way without looking at all of them: those that share a node, a
 * name or a claim.
 */

/** What of a target others can run into. */
export interface Footprint {
  /** Names of the nodes that it runs on. */
  readonly nodes: ReadonlySet<string>;
  /** NQNs that it answers to, on whichever node. */
  readonly nqns: ReadonlySet<string>;
  /** PersistentVolumeClaims that it uses, as `<namespace>/<name>`: the same data on whichever node. */
  readonly claims: ReadonlySet<string>;
}

type Index = Map<string, Set<string>>;

function add(index: Index, values: Iterable<string>, key: string): void {
  for (const value of values) {
    const keys = index.get(value);
    if (keys === undefined) index.set(value, new Set([key]));
    else keys.add(key);
  }
}

function remove(index: Index, values: Iterable<string>, key: string): void {
  for (const value of values) {
    const keys = index.get(value);
    keys?.delete(key);
    if (keys?.size === 0) index.delete(value);
  }
}

/** Footprints by key, and their keys by what they touch. */
export class Neighbourhood {
  readonly #footprints = new Map<string, Footprint>();
  readonly #byNode: Index = new Map();
  readonly #byNqn: Index = new Map();
  readonly #byClaim: Index = new Map();

  /** Takes up a footprint in place of the one that `key` had; undefined when it has none any more. */
  set(key: string, footprint: Footprint | undefined): void {
    const before = this.#footprints.get(key);
    if (before === footprint) return;
    if (before !== undefined) {
      remove(this.#byNode, before.nodes, key);
      remove(this.#byNqn, before.nqns, key);
      remove(this.#byClaim, before.claims, key);
      this.#footprints.delete(key);
    }
    if (footprint === undefined) return;
    this.#footprints.set(key, footprint);
    add(this.#byNode, footprint.nodes, key);
    add(this.#byNqn, footprint.nqns, key);
    add(this.#byClaim, footprint.claims, key);
  }

  /** Keys of the others that share a node, an NQN or a claim with `key`. */
  of(key: string): ReadonlySet<string> {
    const footprint = this.#footprints.get(key);
    const found = new Set<string>();
    for (const node of footprint?.nodes ?? [])
      for (const other of this.#byNode.get(node) ?? []) found.add(other);
    for (const nqn of footprint?.nqns ?? []) for (const other of this.#byNqn.get(nqn) ?? []) found.add(other);
    for (const claim of footprint?.claims ?? [])
      for (const other of this.#byClaim.get(claim) ?? []) found.add(other);
    found.delete(key);
    return found;
  }
}
