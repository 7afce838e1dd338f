import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { renderScale } from './picture.ts';
import { addRecord, readReport, type ScaleRecord, writeReport } from './report.ts';

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

  it('has a picture with a point for each record in each plot', () => {
    const picture = renderScale([record(100), record(500), record(100, true)]);
    expect(picture.match(/<circle /g)).toHaveLength(18);
    expect(picture).not.toContain('NaN');
    expect(picture).toContain('p99');
  });
});
