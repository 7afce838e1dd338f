import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { nvmeofTargetSpecSchema } from './nvmeof-target.ts';
import { nvmeofTargetNodeSpecSchema } from './nvmeof-target-node.ts';
import { parseOrExplain } from './validation.ts';

const read = async (name: string): Promise<unknown> =>
  parse(await readFile(new URL(`../examples/${name}`, import.meta.url), 'utf8'));

describe('the examples', () => {
  it.each(['first-target.yaml', 'shared-block-device.yaml'])(
    '%s holds a valid NvmeofTarget',
    async (name) => {
      const object = (await read(name)) as { kind: string; spec: unknown };
      expect(object.kind).toBe('NvmeofTarget');
      expect(parseOrExplain(nvmeofTargetSpecSchema, object.spec, name).listeners).not.toHaveLength(0);
    },
  );

  it('standalone.yaml holds a valid spec of an NvmeofTargetNode', async () => {
    const spec = parseOrExplain(nvmeofTargetNodeSpecSchema, await read('standalone.yaml'), 'standalone.yaml');
    expect(spec.subsystems).toHaveLength(1);
  });
});
