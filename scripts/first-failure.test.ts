import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repositoryRoot } from './paths.ts';

const script = join(repositoryRoot, 'scripts/first-failure.ts');

/** Runs a test program that is given as JavaScript. */
function run(program: string): { status: number | null; stdout: string } {
  const argv = [script, process.execPath, '--eval', program];
  return spawnSync(process.execPath, argv, { encoding: 'utf8', timeout: 30_000 });
}

test('a test program that finds nothing ends as it would alone, with all it says', () => {
  const { status, stdout } = run("console.log('test a ... ok'); console.log('test result: ok.')");
  expect(stdout).toBe('test a ... ok\ntest result: ok.\n');
  expect(status).toBe(0);
  expect(run('process.exitCode = 3').status).toBe(3);
});

test('the first test that fails ends a test program that would go on for ever', () => {
  const { status, stdout } = run("console.log('test a ... FAILED'); setInterval(() => {}, 1000)");
  expect(stdout).toBe('test a ... FAILED\n');
  expect(status).toBe(101);
});
