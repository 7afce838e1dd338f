import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { renderScale } from './picture.ts';
import { addRecord, readReport, type ScaleRecord, summaryOf, writeReport } from './report.ts';
import { parseSizes } from './sizes.ts';

function record(targets: number, pods = false, change: Partial<ScaleRecord> = {}): ScaleRecord {
  return {
    date: '2026-11-23T18:00:00Z',
    machine: { cpu: 'some', cores: 2, memoryGiB: 24, loadBefore: 1 },
    kubernetes: 'v1.36.3',
    nodes: targets,
    targets,
    pods,
    objects: targets * 10,
    objectsSeconds: targets / 10,
    settledSeconds: targets / 9,
    requests: { PATCH: targets * 30 },
    requestsPerTarget: 30,
    requestsPerObject: 3,
    cpuSeconds: targets / 20,
    cpuMsPerObject: 5,
    residentMiB: 200,
    edits: { count: 100, p50Ms: 100, p99Ms: 400, maxMs: 500, requestsPerObject: 1.3 },
    rest: { seconds: 20, requests: 0, cpuPercent: 1 },
    ...change,
  };
}

describe('the report of the scale test', () => {
  it('is kept over several runs, by size, and holds one record of each size and kind', () => {
    const directory = mkdtempSync(join(tmpdir(), 'weir-scale-'));
    try {
      const path = join(directory, 'report.json');
      expect(readReport(path)).toEqual([]);
      const first = addRecord(addRecord(addRecord([], record(500)), record(100)), record(100, true));
      writeReport(path, addRecord(readReport(path), record(1)));
      writeReport(path, addRecord(first, record(500, false, { cpuSeconds: 1 })));
      const read = readReport(path);
      expect(read.map(({ targets, pods }) => [targets, pods])).toEqual([
        [100, false],
        [100, true],
        [500, false],
      ]);
      expect(read[2]?.cpuSeconds).toBe(1);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  it('is summed up in a line for each size', () => {
    const [head, small, large, ...rest] = summaryOf([record(250), record(1000)]).split('\n');
    expect(head).toContain('edit to child p50 / p99');
    expect(small).toMatch(/250 x 250 .* 2500 .* 100 \/ 400 ms/);
    expect(large).toMatch(/1000 x 1000 .* 10000 /);
    expect(rest).toEqual([]);
  });

  it('has a picture with a point for each record in each plot', () => {
    const picture = renderScale([record(100), record(500), record(100, true)]);
    expect(picture.match(/<circle /g)).toHaveLength(18);
    expect(picture).not.toContain('NaN');
    expect(picture).toContain('p99');
  });
});

describe('the sizes of the scale test', () => {
  it('are several, with as many targets as nodes where nothing else is said', () => {
    expect(parseSizes('250, 500,1000x20')).toEqual([
      { nodes: 250, targets: 250 },
      { nodes: 500, targets: 500 },
      { nodes: 1000, targets: 20 },
    ]);
  });

  it.each(['', '250,', '0', '10x0', 'ten', '1.5', '10x10x10', '-5'])(
    'are refused when written %j',
    (text) => {
      expect(() => parseSizes(text)).toThrow('write sizes like');
    },
  );
});
