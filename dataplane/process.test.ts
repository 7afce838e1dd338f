/** The whole program as a process, with the real core where it was built. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { stringify } from 'yaml';
import { exitCodes } from './exit-codes.ts';
import { sampleSpecInput } from './sample-spec.ts';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const libraryPath = process.env['WEIR_CORE_LIBRARY'] || join(root, 'dist/native/libweir_core.so');

function start(args: string[]) {
  const child = spawn(process.execPath, [join(root, 'bin/weir-dataplane'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const exited = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  return { child, exited, output: () => output, errors: () => errors };
}

describe('weir-dataplane', () => {
  it('says in one line what is wrong with its call', async () => {
    const program = start(['--config', '/nowhere/target.yaml']);
    expect(await program.exited).toBe(exitCodes.configuration);
    expect(program.errors()).toBe(
      'weir-dataplane: /nowhere/target.yaml: cannot be read: there is no such file\n',
    );
    expect(program.output()).toBe('');
  });

  it.skipIf(!existsSync(libraryPath))('serves without a cluster, and drains on SIGTERM', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'weir-process-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const config = join(directory, 'target.yaml');
    const listeners = [{ name: 'storage', addressFrom: { address: '192.0.2.1' } }];
    writeFileSync(config, stringify({ ...sampleSpecInput, listeners }));
    const program = start(['--config', config, '--metrics-address', '127.0.0.1:0']);
    const logged = (text: string) =>
      vi.waitFor(() => expect(program.output() + program.errors()).toContain(text), 15_000);
    await logged('"event":"applied"');
    await logged('"msg":"serving"');
    program.child.kill('SIGTERM');
    expect(await program.exited).toBe(exitCodes.ok);
    expect(program.errors()).toBe('');
    for (const line of program.output().trim().split('\n')) expect(() => JSON.parse(line)).not.toThrow();
  });
});
