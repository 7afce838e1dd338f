/** zod schema → structural OpenAPI v3 schema, the form that a CustomResourceDefinition takes. */
import { z } from 'zod';
import { CEL_RULES } from './rule.ts';

/** A structural schema, as plain JSON. */
export interface StructuralSchema {
  type?: string;
  format?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  pattern?: string;
  minimum?: number;
  maximum?: number;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  maxProperties?: number;
  items?: StructuralSchema;
  properties?: Record<string, StructuralSchema>;
  additionalProperties?: StructuralSchema;
  required?: string[];
  'x-kubernetes-list-type'?: string;
  'x-kubernetes-list-map-keys'?: string[];
  [CEL_RULES]?: { rule: string; message: string; fieldPath?: string }[];
}

/** Keys in the order in which they are written, so that the generated files read well and never reshuffle. */
const KEY_ORDER = [
  'description',
  'type',
  'format',
  'default',
  'enum',
  'pattern',
  'minimum',
  'maximum',
  'multipleOf',
  'minLength',
  'maxLength',
  'minItems',
  'maxItems',
  'maxProperties',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'items',
  'required',
  'properties',
  'additionalProperties',
  CEL_RULES,
] as const;

const INT32_MAX = 2 ** 31 - 1;

type JsonObject = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Bounds that zod adds to every integer; they say nothing that the format does not. */
function isImplicitBound(key: string, value: unknown): boolean {
  return (
    (key === 'minimum' && value === Number.MIN_SAFE_INTEGER) ||
    (key === 'maximum' && value === Number.MAX_SAFE_INTEGER)
  );
}

function integerFormat(node: JsonObject): 'int32' | 'int64' {
  return typeof node['maximum'] === 'number' && node['maximum'] <= INT32_MAX ? 'int32' : 'int64';
}

/** The API server checks rules against a default as it is written, so defaults inside it are written out. */
function withDefaults(value: JsonObject, schema: StructuralSchema): JsonObject {
  const filled: Record<string, unknown> = { ...value };
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    const current = filled[name] ?? child.default;
    if (current !== undefined) filled[name] = isObject(current) ? withDefaults(current, child) : current;
  }
  return filled;
}

function structural(node: JsonObject, path: string): StructuralSchema {
  const values: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(node)) {
    if (isImplicitBound(key, value) || key === '$schema' || key === 'propertyNames') continue;
    // Unknown fields are pruned, and refused by strict validation; structural schemas have no word for it.
    if (key === 'additionalProperties' && value === false) continue;
    if (!(KEY_ORDER as readonly string[]).includes(key)) {
      throw new Error(`${path}: "${key}" cannot be said in a structural schema`);
    }
    values[key] = value;
  }
  if (values['type'] === undefined) throw new Error(`${path}: every field needs one type`);
  if (values['type'] === 'integer') values['format'] = integerFormat(node);
  if (values['type'] === 'string' && values['maxLength'] === undefined && values['enum'] === undefined) {
    throw new Error(`${path}: a string needs a maximum length (cost of CEL rules)`);
  }
  if (values['type'] === 'array' && values['maxItems'] === undefined) {
    throw new Error(`${path}: a list needs a maximum length (cost of CEL rules)`);
  }
  if (values['additionalProperties'] !== undefined && values['maxProperties'] === undefined) {
    throw new Error(`${path}: a map needs a maximum size (cost of CEL rules)`);
  }
  if (values['minItems'] === 0) delete values['minItems'];
  if (isObject(values['items'])) values['items'] = structural(values['items'], `${path}[]`);
  if (isObject(values['additionalProperties'])) {
    values['additionalProperties'] = structural(values['additionalProperties'], `${path}{}`);
  }
  if (isObject(values['properties'])) {
    values['properties'] = Object.fromEntries(
      Object.entries(values['properties']).map(([name, child]) => {
        if (!isObject(child)) throw new Error(`${path}.${name}: not a schema`);
        return [name, structural(child, `${path}.${name}`)];
      }),
    );
  }
  if (isObject(values['default'])) values['default'] = withDefaults(values['default'], values);
  const ordered: Record<string, unknown> = {};
  for (const key of KEY_ORDER) if (values[key] !== undefined) ordered[key] = values[key];
  return ordered as StructuralSchema;
}

/** The structural form of a schema. Throws, naming the field, when the schema cannot be said in one. */
export function structuralSchema(schema: z.ZodType, name: string): StructuralSchema {
  const json: unknown = z.toJSONSchema(schema, {
    target: 'openapi-3.0',
    io: 'input',
    override: ({ zodSchema, jsonSchema }) => {
      // A refined object keeps its own keywords; zod only drops what it has no JSON form for.
      if (zodSchema._zod.def.type === 'custom') throw new Error(`${name}: a bare custom check has no type`);
      delete jsonSchema.id;
    },
  });
  if (!isObject(json)) throw new Error(`${name}: not an object schema`);
  return structural(json, name);
}
