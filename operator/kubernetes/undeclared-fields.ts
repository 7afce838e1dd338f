/** Writing to an API server whose CRD is of an older release, as after `helm rollback`: it knows fewer fields. */
import { ApiError } from './api-error.ts';

/** Keys of a list's item, as the API server writes them: `[name="a",nsid=1]`, the text quoted as in Go; or an index. */
const ITEM = /\[(?:"(?:[^"\\]|\\.)*"|[^\]"])*\]/g;

/**
 * Server-side apply refuses the whole object and names such fields, though not each at once, for example
 * `.status.listeners[name="a"].outages`: several of them in lines of their own, one alone at the end of the line.
 */
const UNDECLARED = new RegExp(
  String.raw`(?<=^|\s)\.((?:[^\s[:]|${ITEM.source})+): field not declared in schema$`,
  'gm',
);

/** Paths of the fields that the API server does not know, without the items of lists; empty for any other error. */
export function undeclaredFields(error: unknown): readonly string[] {
  if (!(error instanceof ApiError)) return [];
  return [...error.detail.matchAll(UNDECLARED)].map(([, path = '']) => path.replaceAll(ITEM, ''));
}

function without(value: unknown, path: readonly string[]): unknown {
  if (Array.isArray(value)) return value.map((item) => without(item, path));
  const [name, ...rest] = path;
  if (typeof value !== 'object' || value === null || name === undefined || !(name in value)) return value;
  const { [name]: child, ...others } = value as Record<string, unknown>;
  return rest.length === 0 ? others : { ...others, [name]: without(child, rest) };
}

/** The object without these fields, in every item of the lists on the way. */
export function withoutFields<T extends object>(object: T, paths: readonly string[]): T {
  return paths.reduce<unknown>((left, path) => without(left, path.split('.')), object) as T;
}

/**
 * Applies of an object what the API server knows. It looks at the fields of a map in no order and at none after the
 * first that it does not know (nor into them), so that a refusal names one of several, and not the same each time: it is
 * asked again without those named until it takes the rest. That ends: each time the object has fewer fields.
 *
 * @param apply server-side apply of what it is given; rejects with what the API server said.
 * @throws the refusal that names nothing to leave out.
 */
export async function applyKnownFields<T extends object>(
  object: T,
  apply: (object: T) => Promise<unknown>,
): Promise<void> {
  for (let left = object; ; ) {
    try {
      await apply(left);
      return;
    } catch (error) {
      const rest = withoutFields(left, undeclaredFields(error));
      if (JSON.stringify(rest) === JSON.stringify(left)) throw error;
      left = rest;
    }
  }
}
