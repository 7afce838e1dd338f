import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { closeRun, commandStage, runLanes, type Stage } from './stages.ts';

let logs: string;
let printed: string[];
beforeEach(() => {
  logs = mkdtempSync(join(tmpdir(), 'weir-stages-'));
  printed = [];
  vi.spyOn(console, 'log').mockImplementation((line: string) => printed.push(line));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(logs, { recursive: true });
});

function sh(name: string, script: string, needs: string[] = []): Stage {
  return commandStage(name, ['sh', '-c', script], { needs, timeoutSeconds: 20 });
}

describe('a run of stages', () => {
  it('ends with one line that says how many passed and failed, and an exit status true to it', async () => {
    const good = await runLanes([[sh('one', 'true'), sh('two', 'true')]], logs);
    expect(closeRun(good, logs)).toBe(0);
    expect(printed.at(-1)).toBe('2 passed, 0 failed');
    const bad = await runLanes([[sh('one', 'true'), sh('two', 'echo broken; exit 3')]], logs);
    expect(closeRun(bad, logs)).toBe(1);
    expect(printed.at(-1)).toBe('1 passed, 1 failed');
  });

  it('says which files of a suite took long', async () => {
    const slowest = [{ name: 'restarts.e2e.ts', seconds: 214.43 }];
    const suite: Stage = { name: 'suite', run: async () => ({ passed: 3, failed: 0, slowest }) };
    closeRun(await runLanes([[suite]], logs), logs);
    expect(printed.join('\n')).toMatch(/suite +0\.0 s {2}3 passed\n +restarts\.e2e\.ts +214\.4 s/);
  });

  it('is no success when nothing was tested', () => {
    expect(closeRun([], logs)).toBe(1);
  });

  it('counts a stage that crashes as failed and goes on', async () => {
    const crash: Stage = { name: 'crash', run: () => Promise.reject(new Error('out of memory')) };
    const results = await runLanes([[crash, sh('next', 'true')]], logs);
    expect(results.map((result) => result.tally)).toEqual([
      { passed: 0, failed: 1 },
      { passed: 1, failed: 0 },
    ]);
    expect(printed.join('\n')).toContain('out of memory');
  });

  it('counts a stage as failed, without running it, when what it needs did not pass', async () => {
    const results = await runLanes([[sh('build', 'false'), sh('use', 'true', ['build'])]], logs);
    expect(results[1]).toMatchObject({ name: 'use', tally: { passed: 0, failed: 1 } });
    expect(printed.join('\n')).toContain('not run, because "build" did not pass');
  });

  it('begins no other stage once it was told to end, and is no success', async () => {
    const end = new AbortController();
    const first: Stage = {
      name: 'first',
      run: async () => {
        end.abort();
        return { passed: 1, failed: 0 };
      },
    };
    const results = await runLanes([[first, sh('next', 'true')]], logs, [], end.signal);
    expect(closeRun(results, logs)).toBe(1);
    expect(printed.join('\n')).toContain('next: not run, because the run was told to end');
  });

  it("keeps a stage's output in a log and shows the end of it when it failed", async () => {
    const results = await runLanes([[sh('noisy stage', 'echo what went wrong; exit 1')]], logs);
    expect(readFileSync(results[0]?.logFile ?? '', 'utf8')).toContain('what went wrong');
    expect(printed.join('\n')).toContain('what went wrong');
  });

  it('kills what hangs', async () => {
    const hanging = commandStage('hang', ['sh', '-c', 'sleep 60'], { timeoutSeconds: 0.2 });
    const [result] = await runLanes([[hanging]], logs);
    expect(result?.tally.failed).toBe(1);
    expect(printed.join('\n')).toContain('not finished within 0.2 s');
  });
});
