/** The pages of the documentation: the README and everything below docs/. */
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where the repository begins. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** One page. */
export interface Page {
  /** Relative to the repository. */
  readonly path: string;
  readonly markdown: string;
}

/** Every page, by its path. */
export async function readPages(): Promise<Page[]> {
  const files = await readdir(join(ROOT, 'docs'), { recursive: true });
  const paths = ['README.md', ...files.filter((file) => file.endsWith('.md')).map((file) => `docs/${file}`)];
  return Promise.all(
    paths.toSorted().map(async (path) => ({ path, markdown: await readFile(join(ROOT, path), 'utf8') })),
  );
}

/** Paths, relative to the repository, that a page links to; addresses elsewhere are left out. */
export function linksOf({ path, markdown }: Page): string[] {
  return [...markdown.matchAll(/\]\(([^)\s#]+)(?:#[^)\s]*)?\)/g)]
    .map(([, link = '']) => link)
    .filter((link) => !/^[a-z]+:/.test(link))
    .map((link) => normalize(join(dirname(path), link)).replace(/\/$/, ''));
}
