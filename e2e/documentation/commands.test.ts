import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { commandsOf, documentedCommands } from './commands.ts';
import { NOT_RUN, PLACEHOLDERS, type Placeholder, placeOf, reasonNotToRun, withNames } from './places.ts';

describe('the commands of a page', () => {
  const page = [
    '```sh',
    'one    # a remark',
    'two \\',
    '  --three "a # b"',
    '',
    '# four',
    '```',
    '```yaml',
    'five',
    '```',
  ];

  it('are the lines of its shell blocks, joined where they go on, without remarks', () => {
    expect(commandsOf('docs/page.md', page.join('\n'))).toEqual([
      { page: 'docs/page.md', line: 2, text: 'one' },
      { page: 'docs/page.md', line: 3, text: 'two --three "a # b"' },
    ]);
  });
});

describe('names of the reader', () => {
  it('are replaced, the longer one first, and only those that occur are asked for', async () => {
    const unasked = (): never => {
      throw new Error('nobody needs it');
    };
    const names = Object.fromEntries(PLACEHOLDERS.map((name) => [name, unasked])) as unknown;
    const filled = withNames('kubectl describe nvtn -n NAMESPACE TARGET-NODE', {
      ...(names as Record<Placeholder, () => string>),
      'TARGET-NODE': () => 'fast-node-a',
      NAMESPACE: () => 'storage',
    });
    await expect(filled).resolves.toBe('kubectl describe nvtn -n storage fast-node-a');
  });
});

describe('every command of the documentation', () => {
  it('is run by a test, or says why not', async () => {
    const forgotten = (await documentedCommands()).filter(
      (command) => reasonNotToRun(command) === undefined && placeOf(command) === undefined,
    );
    expect(forgotten).toEqual([]);
  });

  it('that is not run is in the documentation at all', async () => {
    const all = await documentedCommands();
    const stale = Object.keys(NOT_RUN).filter(
      (beginning) => !all.some(({ text }) => text.startsWith(beginning)),
    );
    expect(stale).toEqual([]);
  });

  it('of npm is one that the project has', async () => {
    const manifest = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
    const { scripts } = JSON.parse(manifest) as { scripts: Record<string, string> };
    const named = (await documentedCommands()).flatMap(
      ({ text }) => /^npm (?:run )?([\w-]+)/.exec(text)?.[1] ?? [],
    );
    expect(named.filter((name) => scripts[name] === undefined && name !== 'ci')).toEqual([]);
    expect(named.length).toBeGreaterThan(0);
  });
});
