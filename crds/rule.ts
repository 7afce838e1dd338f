/**
 * One rule, two enforcers: the API server evaluates the CEL expression at admission, zod evaluates the predicate
 * wherever an object is read without an API server in front (standalone mode, objects stored by an older schema).
 */
import { z } from 'zod';

/** A line of `x-kubernetes-validations`. */
export interface CelRule {
  /** CEL expression over `self` (and `oldSelf` for transitions). */
  readonly rule: string;
  /** What is wrong and what to write instead; shown by kubectl after the field's path. */
  readonly message: string;
  /** Field, relative to the schema, that the API server names in its answer, e.g. `.port`. */
  readonly fieldPath?: string;
}

/** Key under which rules travel from a zod schema to its OpenAPI form. */
export const CEL_RULES = 'x-kubernetes-validations';

function append<S extends z.ZodType>(schema: S, rule: CelRule): S {
  const meta = schema.meta() ?? {};
  const rules = (meta[CEL_RULES] as CelRule[] | undefined) ?? [];
  return schema.meta({ ...meta, [CEL_RULES]: [...rules, rule] }) as S;
}

/** Adds a rule on one state of the object. `holds` and `rule.rule` must say the same. */
export function withRule<S extends z.ZodType>(
  schema: S,
  rule: CelRule,
  holds: (value: z.output<S>) => boolean,
): S {
  const path = rule.fieldPath === undefined ? [] : rule.fieldPath.split('.').filter((part) => part !== '');
  return append(schema.refine(holds, { message: rule.message, path }) as S, rule);
}

/** Adds a rule on a change (`self` against `oldSelf`); only the API server can judge it. */
export function withTransitionRule<S extends z.ZodType>(schema: S, rule: CelRule): S {
  return append(schema, rule);
}

/** Names that CEL reserves; a field of that name is written `__name__` in an expression. */
const CEL_KEYWORDS = new Set(['null', 'true', 'false', 'in', 'as', 'break', 'const', 'namespace', 'package']);

/** Demands that exactly one of the optional fields is set. */
export function exactlyOneOf<S extends z.ZodType>(schema: S, fields: readonly string[]): S {
  const has = fields.map((field) => `has(self.${CEL_KEYWORDS.has(field) ? `__${field}__` : field})`);
  const terms = has.map((term) => `(${term} ? 1 : 0)`).join(' + ');
  const names = fields.join(', ');
  return withRule(schema, { rule: `${terms} == 1`, message: `set exactly one of ${names}` }, (value) => {
    const object = value as Readonly<Record<string, unknown>>;
    return fields.filter((field) => object[field] !== undefined).length === 1;
  });
}

/**
 * A list whose items are known by the values of `keys` (`x-kubernetes-list-type: map`): merged by key in server-side
 * apply, duplicates refused.
 */
export function mapList<S extends z.ZodType>(
  item: S,
  keys: readonly string[],
  bounds: { readonly minItems?: number; readonly maxItems: number },
) {
  return z
    .array(item)
    .min(bounds.minItems ?? 0)
    .max(bounds.maxItems)
    .superRefine((items, context) => {
      const seen = new Map<string, number>();
      items.forEach((value, index) => {
        const object = value as Readonly<Record<string, unknown>>;
        const key = keys.map((name) => String(object[name])).join('/');
        const first = seen.get(key);
        if (first === undefined) {
          seen.set(key, index);
          return;
        }
        context.addIssue({
          code: 'custom',
          path: [index, keys[0] ?? ''],
          message: `duplicate of item ${first}: ${keys.join(' and ')} must be unique in the list`,
        });
      });
    })
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': [...keys] });
}
