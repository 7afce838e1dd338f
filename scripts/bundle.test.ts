import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import packageJson from '../package.json' with { type: 'json' };
import { repositoryRoot } from './paths.ts';

const installed = mkdtempSync(join(tmpdir(), 'weir-bundle-'));

beforeAll(() => {
  execFileSync(process.execPath, [join(repositoryRoot, 'scripts/bundle.ts'), installed]);
  cpSync(join(repositoryRoot, 'bin'), join(installed, 'bin'), { recursive: true });
});

afterAll(() => rmSync(installed, { recursive: true }));

/** Exit code and all output of a program of the bundle, away from the clone and its packages. */
function run(program: string, ...args: string[]): { code: number; output: string } {
  const code = '"$@" 2>&1; echo "exit code $?"';
  const argv = ['-c', code, 'sh', process.execPath, join(installed, 'bin', program), ...args];
  const output = execFileSync('sh', argv, {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], HOME: installed, KUBECONFIG: '' },
  });
  return { code: Number(/exit code (\d+)\n$/.exec(output)?.[1]), output };
}

test.each(['kubectl-weir', 'weir-dataplane', 'weir-operator'])(
  '%s starts without the packages',
  (program) => {
    expect(run(program, '--help')).toMatchObject({ code: 0, output: expect.stringContaining('Usage: ') });
  },
);

test('the version is that of the package', () => {
  expect(run('weir-dataplane', '--version').output).toContain(packageJson.version);
});

test('what a program loads late is there: the cluster for a dataplane; and the native addon', () => {
  expect(run('weir-dataplane', '--namespace', 'a', '--name', 'b').output).toContain('no cluster: ');
});

test('licences of what is bundled come with it', () => {
  const licences = readFileSync(join(installed, 'third-party-licences.txt'), 'utf8');
  for (const name of ['@kubernetes/client-node', 'zod', 'pino']) expect(licences).toContain(`${name} `);
  expect(licences).toMatch(/Permission is hereby granted, free of charge/);
});
