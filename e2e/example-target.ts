/** The target of `examples/first-target.yaml`, as the demo and the tests need to know it. */
import { readFile } from 'node:fs/promises';
import { parseAllDocuments } from 'yaml';
import { z } from 'zod';

const targetSchema = z.object({
  kind: z.literal('NvmeofTarget'),
  metadata: z.object({ name: z.string(), namespace: z.string() }),
  spec: z.object({
    nqn: z.string(),
    listeners: z.array(z.object({ port: z.number() })).min(1),
    namespaces: z.array(z.object({ nsid: z.number() })),
  }),
});

/** Names and numbers of the example target. */
export interface ExampleTarget {
  readonly manifest: string;
  readonly name: string;
  readonly namespace: string;
  readonly nqn: string;
  readonly port: number;
  readonly nsids: readonly number[];
}

/** The example that a newcomer applies first. */
export const FIRST_TARGET_FILE = new URL('../examples/first-target.yaml', import.meta.url);

/** Reads the example; it must hold exactly one NvmeofTarget. */
export async function readExampleTarget(file: URL = FIRST_TARGET_FILE): Promise<ExampleTarget> {
  const manifest = await readFile(file, 'utf8');
  const documents = parseAllDocuments(manifest).map((document): unknown => document.toJS());
  const targets = documents.flatMap((document) => {
    const parsed = targetSchema.safeParse(document);
    return parsed.success ? [parsed.data] : [];
  });
  const [target] = targets;
  if (target === undefined || targets.length !== 1) {
    throw new Error(`${file.pathname}: expected exactly one NvmeofTarget, found ${targets.length}`);
  }
  return {
    manifest,
    name: target.metadata.name,
    namespace: target.metadata.namespace,
    nqn: target.spec.nqn,
    port: target.spec.listeners[0]?.port ?? 4420,
    nsids: target.spec.namespaces.map((namespace) => namespace.nsid),
  };
}
