import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { linksOf, ROOT, readPages } from './pages.ts';

describe('the links of a page', () => {
  it('are paths in the repository, without anchors and without what lies elsewhere', () => {
    const markdown = '[a](../b/c.md#d) [e](#f) [g](https://example.test) [h](i/)';
    expect(linksOf({ path: 'docs/x/y.md', markdown })).toEqual(['docs/b/c.md', 'docs/x/i']);
  });
});

describe('the documentation', () => {
  it('links to nothing that is not there', async () => {
    const broken = (await readPages()).flatMap((page) =>
      linksOf(page)
        .filter((link) => !existsSync(join(ROOT, link)))
        .map((link) => `${page.path}: ${link}`),
    );
    expect(broken).toEqual([]);
  });

  it('has no page that nobody finds from the README', async () => {
    const pages = new Map((await readPages()).map((page) => [page.path, page]));
    const found = new Set<string>();
    const visit = (path: string): void => {
      const page = pages.get(path);
      if (page === undefined || found.has(path)) return;
      found.add(path);
      linksOf(page).forEach(visit);
    };
    visit('README.md');
    expect([...pages.keys()].filter((path) => !found.has(path))).toEqual([]);
  });
});
