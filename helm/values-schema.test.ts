import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { valuesSchema } from './values-schema.ts';

interface JsonSchema {
  description?: string;
  properties?: Record<string, JsonSchema>;
}

const defaults = async (): Promise<unknown> =>
  parse(await readFile(new URL('weir/values.yaml', import.meta.url), 'utf8'));

/** Paths of all values, those of maps that users fill included. */
function paths(schema: JsonSchema, path = ''): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, child]) => {
    const own = path === '' ? name : `${path}.${name}`;
    const below = paths(child, own);
    return below.length === 0 ? [own] : below;
  });
}

describe('the values of the chart', () => {
  const schema = z.toJSONSchema(valuesSchema, { target: 'draft-7', io: 'input' }) as JsonSchema;

  it('fit the schema by default', async () => {
    expect(valuesSchema.safeParse(await defaults()).error).toBeUndefined();
  });

  it('are all in values.yaml, where people look for them', async () => {
    const values = await defaults();
    const missing = paths(schema).filter((path) => {
      const found = path
        .split('.')
        .reduce<unknown>((value, name) => (value as Record<string, unknown> | undefined)?.[name], values);
      return found === undefined && path !== 'global';
    });
    expect(missing).toEqual([]);
  });

  it('say what they are', () => {
    const silent: string[] = [];
    const visit = (node: JsonSchema, path: string): void => {
      for (const [name, child] of Object.entries(node.properties ?? {})) {
        if ((child.description ?? '') === '') silent.push(`${path}.${name}`);
        visit(child, `${path}.${name}`);
      }
    };
    visit(schema, '');
    expect(silent).toEqual([]);
  });
});
