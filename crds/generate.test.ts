import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { driftedFiles, generatedFiles } from './generate.ts';
import { structuralSchema } from './openapi.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

describe('the generated files', () => {
  it('are what the schemas say', async () => {
    expect(await driftedFiles(root, generatedFiles())).toEqual([]);
  });

  it('are reported when they differ or are absent', async () => {
    expect(await driftedFiles(root, new Map([['crds/no-such-file', 'x']]))).toEqual(['crds/no-such-file']);
  });
});

describe('a structural schema', () => {
  it('cannot have a string or list without a maximum', () => {
    expect(() => structuralSchema(z.object({ a: z.string() }), 'Kind')).toThrow(
      'Kind.a: a string needs a maximum',
    );
    expect(() => structuralSchema(z.object({ a: z.array(z.boolean()) }), 'Kind')).toThrow(
      'Kind.a: a list needs',
    );
  });

  it('cannot have a union', () => {
    const union = z.object({ a: z.union([z.boolean(), z.int()]) });
    expect(() => structuralSchema(union, 'Kind')).toThrow('Kind.a: "anyOf" cannot be said');
  });

  it('writes defaults out in full', () => {
    const inner = z.object({ n: z.int().max(9).default(3) }).prefault({});
    expect(structuralSchema(z.object({ inner }), 'Kind').properties?.['inner']?.default).toEqual({ n: 3 });
  });
});
