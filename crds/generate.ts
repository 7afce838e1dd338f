/**
 * Writes what is generated from the schemas: the CRDs, the chart's copy of them and the API reference.
 * `node crds/generate.ts` writes; with `--check` it changes nothing and fails when a file differs.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { GROUP } from './api-group.ts';
import { API_KINDS, customResourceDefinition } from './custom-resource-definition.ts';
import { apiReference } from './reference.ts';

const HEADER = '# Generated from the schemas in crds/ by crds/generate.ts. Do not edit.\n';

/** Every generated file: its path relative to the repository, and its content. */
export function generatedFiles(): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const kind of API_KINDS) {
    const yaml =
      HEADER + stringify(customResourceDefinition(kind), { lineWidth: 0, aliasDuplicateObjects: false });
    const name = `${GROUP}_${kind.plural}.yaml`;
    files.set(`crds/generated/${name}`, yaml);
    files.set(`helm/weir/files/crds/${name}`, yaml);
  }
  files.set('docs/reference/api.md', apiReference(API_KINDS));
  return files;
}

/** Paths, of those in `files`, whose content below `root` differs or is absent. */
export async function driftedFiles(root: string, files: ReadonlyMap<string, string>): Promise<string[]> {
  const drifted: string[] = [];
  for (const [path, content] of files) {
    const existing = await readFile(join(root, path), 'utf8').catch(() => undefined);
    if (existing !== content) drifted.push(path);
  }
  return drifted;
}

async function main(root: string, check: boolean): Promise<number> {
  const files = generatedFiles();
  const drifted = await driftedFiles(root, files);
  if (check) {
    for (const path of drifted)
      console.error(`${path} is not what the schemas in crds/ say: run npm run generate`);
    return drifted.length === 0 ? 0 : 1;
  }
  for (const path of drifted) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), files.get(path) ?? '');
    console.log(`wrote ${path}`);
  }
  return 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = join(dirname(fileURLToPath(import.meta.url)), '..');
  process.exitCode = await main(root, process.argv.includes('--check'));
}
