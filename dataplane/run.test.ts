import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { stringify } from 'yaml';
import { CoreError } from './core/errors.ts';
import { FakeCore } from './core/fake-core.ts';
import { exitCodes } from './exit-codes.ts';
import { createLogger } from './logging.ts';
import { run } from './run.ts';
import { sampleSpecInput } from './sample-spec.ts';

const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

function configFile(content: string = stringify(sampleSpecInput)): string {
  const directory = mkdtempSync(join(tmpdir(), 'weir-run-'));
  directories.push(directory);
  const path = join(directory, 'target.yaml');
  writeFileSync(path, content);
  return path;
}

/** Starts the program on a file with a fake core. */
function start(argv: string[], core = new FakeCore()) {
  let stop: (signal: 'SIGTERM' | 'SIGINT') => void = () => undefined;
  let printed = '';
  const logged: { level: string; msg: string; [field: string]: unknown }[] = [];
  const killed = Promise.withResolvers<number>();
  const listening = Promise.withResolvers<Server>();
  const exitCode = run({
    argv: [...argv, '--metrics-address', '127.0.0.1:0'],
    environment: {},
    rootDirectory: dirname(dirname(fileURLToPath(import.meta.url))),
    openCore: () => core,
    print: (text) => {
      printed += text;
    },
    createLogger: (level, bindings) =>
      createLogger(level, bindings, { write: (line) => logged.push(JSON.parse(line)) }),
    onStopSignal: (listener) => {
      stop = listener;
    },
    exitNow: killed.resolve,
    onListening: listening.resolve,
  });
  onTestFinished(async () => {
    stop('SIGTERM');
    await exitCode.catch(() => undefined);
  });
  const fetchText = async (path: string): Promise<string> => {
    const { port } = (await listening.promise).address() as AddressInfo;
    return (await fetch(`http://127.0.0.1:${port}${path}`)).text();
  };
  return {
    core,
    exitCode,
    killed: killed.promise,
    logged,
    fetchText,
    printed: () => printed,
    stop: (signal: 'SIGTERM' | 'SIGINT') => stop(signal),
    serving: () => vi.waitFor(() => expect(core.applied.length).toBeGreaterThan(0)),
  };
}

function withPort(port: number): string {
  return stringify({
    ...sampleSpecInput,
    listeners: [{ name: 'storage', addressFrom: { address: '10.9.0.1' }, port }],
  });
}

describe('weir-dataplane --config', () => {
  it('serves what the file says, and tells probes and metrics', async () => {
    const program = start(['--config', configFile()]);
    await program.serving();
    expect(program.core.applied[0]).toMatchObject({ generation: 1, spec: { nodeName: 'node-a' } });
    expect(await program.fetchText('/readyz')).toBe('ok\n');
    expect(await program.fetchText('/healthz')).toBe('ok\n');
    expect(await program.fetchText('/metrics')).toContain(
      'weir_target_listener_up{target="storage/fast",node="node-a",listener="storage"} 1',
    );
  });

  it('applies a changed file, written in place or renamed over it', async () => {
    const path = configFile();
    const program = start(['--config', path]);
    await program.serving();
    writeFileSync(path, withPort(4421));
    await vi.waitFor(() => expect(program.core.applied).toHaveLength(2), 5000);
    writeFileSync(`${path}.new`, withPort(4422));
    renameSync(`${path}.new`, path);
    await vi.waitFor(() => expect(program.core.applied).toHaveLength(3), 5000);
    expect(program.core.applied.map(({ generation, spec }) => [generation, spec.listeners[0]?.port])).toEqual(
      [
        [1, 4420],
        [2, 4421],
        [3, 4422],
      ],
    );
  });

  it('goes on with the last good state when the file breaks, says where, counts it, and takes the repaired one', async () => {
    const path = configFile();
    const program = start(['--config', path]);
    await program.serving();
    writeFileSync(path, withPort(70000));
    await vi.waitFor(() => expect(program.logged.some((line) => line.level === 'error')).toBe(true), 5000);
    const error = program.logged.find((line) => line.level === 'error');
    expect(error?.msg).toMatch(
      /the last good one is served on: target\.yaml:\d+: listeners\[0\]\.port: must be at most 65535/,
    );
    expect(program.core.applied).toHaveLength(1);
    expect(await program.fetchText('/metrics')).toMatch(/config_reload_failures_total\{[^}]*\} 1\n/);
    writeFileSync(path, withPort(4430));
    await vi.waitFor(() => expect(program.core.applied).toHaveLength(2), 5000);
  });

  it('goes on when the core refuses a changed state', async () => {
    const path = configFile();
    const program = start(['--config', path]);
    await program.serving();
    program.core.refusal = new CoreError('InvalidSpec', 'queues.queueDepth cannot change while serving');
    writeFileSync(path, withPort(4421));
    await vi.waitFor(
      () =>
        expect(program.logged.some((line) => line.msg.includes('queues.queueDepth cannot change'))).toBe(
          true,
        ),
      5000,
    );
  });

  it('keeps what it serves while the file says paused', async () => {
    const path = configFile();
    const program = start(['--config', path]);
    await program.serving();
    writeFileSync(path, stringify({ ...sampleSpecInput, paused: true, listeners: [] as never }));
    writeFileSync(path, stringify({ ...sampleSpecInput, paused: true }));
    await vi.waitFor(() => expect(program.logged.some((line) => line['paused'] === true)).toBe(true), 5000);
    expect(program.core.applied).toHaveLength(1);
  });

  it('drains on SIGTERM and leaves with 0', async () => {
    const program = start(['--config', configFile()]);
    await program.serving();
    program.stop('SIGTERM');
    expect(await program.exitCode).toBe(exitCodes.ok);
    expect(program.core.drains).toEqual([15_000]);
    expect(program.core.closed).toBe(true);
  });

  it('drains as long as the command line says', async () => {
    const program = start(['--config', configFile(), '--drain-timeout-seconds', '3']);
    await program.serving();
    program.stop('SIGINT');
    await program.exitCode;
    expect(program.core.drains).toEqual([3000]);
  });

  it('leaves after the deadline even if the core never finishes its drain', async () => {
    const program = start(['--config', configFile(), '--drain-timeout-seconds', '0']);
    program.core.whenDrained = () => undefined;
    await program.serving();
    program.stop('SIGTERM');
    expect(await program.exitCode).toBe(exitCodes.ok);
    expect(program.logged.some((line) => line.msg.includes('still in flight'))).toBe(true);
  });

  it.each([exitCodes.deviceRemoved, exitCodes.recreateDevice])(
    'leaves with the exit code %i that the core says, so that its last word is heard before',
    async (exitCode) => {
      const program = start(['--config', configFile()]);
      await program.serving();
      program.core.emit({ type: 'fatal', level: 'error', message: 'the device is gone', exitCode });
      expect(await program.exitCode).toBe(exitCode);
      expect(program.core.closed).toBe(true);
    },
  );

  it('leaves at once on a second signal', async () => {
    const program = start(['--config', configFile()]);
    program.core.whenDrained = () => undefined;
    await program.serving();
    program.stop('SIGTERM');
    program.stop('SIGINT');
    expect(await program.killed).toBe(130);
    await vi.waitFor(() => expect(program.core.drains).toHaveLength(1));
    program.core.emit({ type: 'drained', result: 'completed' });
  });

  it('does not start on a broken file, and says what to change in one line', async () => {
    const program = start(['--config', configFile(withPort(0))]);
    expect(await program.exitCode).toBe(exitCodes.configuration);
    expect(program.printed()).toMatch(
      /^weir-dataplane: target\.yaml:\d+: listeners\[0\]\.port: must be at least 1\n$/,
    );
  });

  it('does not start on a file that is not there', async () => {
    const program = start(['--config', '/nowhere/target.yaml']);
    expect(await program.exitCode).toBe(exitCodes.configuration);
    expect(program.printed()).toBe(
      'weir-dataplane: /nowhere/target.yaml: cannot be read: there is no such file\n',
    );
  });

  it('does not start on a state that the core refuses', async () => {
    const core = new FakeCore();
    core.refusal = new CoreError('InvalidSpec', 'listeners[0]: bad');
    const program = start(['--config', configFile()], core);
    expect(await program.exitCode).toBe(exitCodes.configuration);
    expect(program.printed()).toBe('weir-dataplane: listeners[0]: bad\n');
    expect(core.closed).toBe(true);
  });

  it('leaves with 64 when it is called wrongly', async () => {
    const program = start(['--what']);
    expect(await program.exitCode).toBe(exitCodes.usage);
  });
});
