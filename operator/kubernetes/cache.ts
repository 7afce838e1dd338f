/** What is known of a resource's objects; a reflector fills it, tests hand in their own. */

/** Objects by key and by group. */
export interface Cache<T> {
  get(key: string): T | undefined;
  values(): IterableIterator<T>;
  inGroup(group: string): T[];
}
