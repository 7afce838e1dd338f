import { describe, expect, it } from 'vitest';
import { repositoryRoot } from '../paths.ts';
import { driftedFiles, generatedFiles } from './main.ts';

describe('the generated files', () => {
  it('are what the code says', async () => {
    expect(await driftedFiles(repositoryRoot, await generatedFiles())).toEqual([]);
  });

  it('are reported when they differ or are absent', async () => {
    const files = new Map([['crds/no-such-file', 'x']]);
    expect(await driftedFiles(repositoryRoot, files)).toEqual(['crds/no-such-file']);
  });
});
