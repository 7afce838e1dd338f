/** `npm run generate`: writes every generated file; with `--check` changes nothing and fails when one differs. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { schemaFiles } from '../../crds/generate.ts';
import { dashboardFiles } from '../../helm/dashboards/files.ts';
import { valuesReference } from '../../helm/values-reference.ts';
import { valuesSchemaFile } from '../../helm/values-schema.ts';
import { repositoryRoot } from '../paths.ts';
import { metricsReference } from './metrics-reference.ts';

/** Every generated file: its path relative to the repository, and its content. */
export async function generatedFiles(): Promise<ReadonlyMap<string, string>> {
  return new Map([
    ...schemaFiles(),
    valuesSchemaFile(),
    await valuesReference(),
    ...dashboardFiles(),
    ['docs/reference/metrics.md', await metricsReference()],
  ]);
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

async function main(check: boolean): Promise<number> {
  const files = await generatedFiles();
  const drifted = await driftedFiles(repositoryRoot, files);
  if (check) {
    for (const path of drifted) console.error(`${path} is not what the code says: run npm run generate`);
    return drifted.length === 0 ? 0 : 1;
  }
  for (const path of drifted) {
    await mkdir(dirname(join(repositoryRoot, path)), { recursive: true });
    await writeFile(join(repositoryRoot, path), files.get(path) ?? '');
    console.log(`wrote ${path}`);
  }
  return 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.includes('--check'));
}
