import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { structuralSchema } from './openapi.ts';

describe('a structural schema', () => {
  it('cannot have a string or list without a maximum', () => {
    expect(() => structuralSchema(z.object({ a: z.string() }), 'Kind')).toThrow(
      'Kind.a: a string needs a maximum',
    );
    expect(() => structuralSchema(z.object({ a: z.array(z.boolean()) }), 'Kind')).toThrow(
      'Kind.a: a list needs',
    );
    const map = z.record(z.string().max(9), z.string().max(9));
    expect(() => structuralSchema(z.object({ a: map }), 'Kind')).toThrow('Kind.a: a map needs a maximum');
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
