import { describe, expect, it } from 'vitest';
import { sampleSpecInput } from '../operator/testing/samples.ts';
import {
  type AdmissionCase,
  type EditCase,
  NODE_BASE,
  NODE_CASES,
  NODE_EDITS,
  TARGET_CASES,
  TARGET_EDITS,
  TARGET_NAME_RULE,
} from './admission-cases.ts';
import { API_KINDS, customResourceDefinition } from './custom-resource-definition.ts';
import { nvmeofTargetSpecSchema } from './nvmeof-target.ts';
import { nvmeofTargetNodeSpecSchema } from './nvmeof-target-node.ts';
import type { StructuralSchema } from './openapi.ts';

type Visit = (schema: StructuralSchema, path: string) => void;

function walk(schema: StructuralSchema, path: string, visit: Visit): void {
  visit(schema, path);
  for (const [name, child] of Object.entries(schema.properties ?? {})) walk(child, `${path}.${name}`, visit);
  if (schema.items !== undefined) walk(schema.items, `${path}[]`, visit);
  if (schema.additionalProperties !== undefined) walk(schema.additionalProperties, `${path}{}`, visit);
}

const schemas = API_KINDS.map((kind) => {
  const schema = customResourceDefinition(kind).spec.versions[0]?.schema.openAPIV3Schema;
  if (schema === undefined) throw new Error(`${kind.kind} has no schema`);
  return [kind.kind, schema] as const;
});

const refusals = (cases: readonly (AdmissionCase | EditCase)[]) =>
  cases.flatMap(({ refusedWith }) => refusedWith ?? []);

const answers: Readonly<Record<string, readonly string[]>> = {
  NvmeofTarget: [...refusals(TARGET_CASES), ...refusals(TARGET_EDITS), TARGET_NAME_RULE],
  NvmeofTargetNode: [...refusals(NODE_CASES), ...refusals(NODE_EDITS)],
};

describe.each(schemas)('the schema of %s', (kind, schema) => {
  it('says of every field what it is', () => {
    const silent: string[] = [];
    walk(schema, '', (field, path) => {
      for (const [name, child] of Object.entries(field.properties ?? {})) {
        const isMetadata = path === '' && name === 'metadata';
        if (!isMetadata && (child.description ?? '').length < 3) silent.push(`${path}.${name}`);
      }
    });
    expect(silent).toEqual([]);
  });

  it('has no rule without an object that it refuses', () => {
    const untested: string[] = [];
    let rules = 0;
    walk(schema, '', (field, path) => {
      for (const { message } of field['x-kubernetes-validations'] ?? []) {
        rules += 1;
        if (answers[kind]?.includes(message) !== true) untested.push(`${path}: ${message}`);
      }
    });
    expect(untested).toEqual([]);
    expect(rules).toBeGreaterThan(0);
  });
});

describe('zod judges as the API server does', () => {
  it.each(TARGET_CASES)('an NvmeofTarget with $name', ({ change, refusedWith }) => {
    const { success } = nvmeofTargetSpecSchema.safeParse(sampleSpecInput(change));
    expect(success).toBe(refusedWith === undefined);
  });

  it.each(NODE_CASES)('an NvmeofTargetNode with $name', ({ change, refusedWith }) => {
    const { success } = nvmeofTargetNodeSpecSchema.safeParse({ ...NODE_BASE, ...change });
    expect(success).toBe(refusedWith === undefined);
  });
});
