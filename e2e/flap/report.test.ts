import { describe, expect, it } from 'vitest';
import { renderTable, reportSchema, type ScenarioRecord, violations } from './report.ts';
import { sampleFlap, sampleRecord } from './sample-record.ts';

const SLOPE = { kibPerFlap: 3, warmUpFlaps: 100, flapsPerBlock: 50, blocks: 18 };

describe('violations', () => {
  it('finds nothing when every figure was reached', () => {
    expect(violations(sampleRecord())).toEqual([]);
  });

  const leaks = sampleRecord().leaks;
  const cases: [string, Partial<ScenarioRecord>, RegExp][] = [
    ['a stall is too long', { flaps: [sampleFlap({ stallAfterUpMs: 2001 })] }, /stall 2001/],
    [
      'a stall is too long even for a host that was connecting',
      { flaps: [sampleFlap({ stallAfterUpMs: 5001, hostConnectInFlight: true })] },
      /stall 5001/,
    ],
    ['I/O never moved', { flaps: [sampleFlap({ stallAfterUpMs: null })] }, /never/],
    ['the port served late', { flaps: [sampleFlap({ portServingAfterUpMs: 1001 })] }, /Serving after 1001/],
    ['the port was not seen serving', { flaps: [sampleFlap({ portServingAfterUpMs: null })] }, /not seen/],
    ['the host had an I/O error', { flaps: [sampleFlap({ hostIoErrors: 1 })] }, /1 I\/O errors/],
    ['the scenario found something', { flaps: [sampleFlap({ missed: ['a thing'] })] }, /flap 1: a thing/],
    ['verification failed', { verifyErrors: 1 }, /verification/],
    ['fio saw an error', { fioIoErrors: 1 }, /of fio/],
    ['the target restarted', { targetRestarts: 1 }, /1 restarts/],
    ['descriptors leaked', { leaks: { ...leaks, fds: 1 } }, /1 fds/],
    ['identifiers leaked', { leaks: { ...leaks, cmIds: 2 } }, /2 cmIds/],
    ['memory grows', { memorySlope: { ...SLOPE, halfWidth: 1 } }, /memory grows/],
    ['the management queue pair died', { managementQueuePairDied: true }, /management/],
    ['the run broke off', { failure: 'no host' }, /no host/],
  ];
  it.each(cases)('tells that %s', (_name, change, words) => {
    const found = violations(sampleRecord(change));
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(words);
  });

  it('allows a host that was connecting by itself its own time', () => {
    const flap = sampleFlap({ stallAfterUpMs: 4000, hostConnectInFlight: true });
    expect(violations(sampleRecord({ flaps: [flap] }))).toEqual([]);
  });

  it('expects the restarts that a scenario causes', () => {
    const limits = { ...sampleRecord().limits, restarts: 2 };
    expect(violations(sampleRecord({ limits, targetRestarts: 2 }))).toEqual([]);
    expect(violations(sampleRecord({ limits, targetRestarts: 1 }))).toHaveLength(1);
  });

  it('takes memory that only might grow for flat', () => {
    expect(violations(sampleRecord({ memorySlope: { ...SLOPE, halfWidth: 4 } }))).toEqual([]);
  });
});

describe('renderTable', () => {
  it('shows both classes of flaps apart', () => {
    const flaps = [sampleFlap(), sampleFlap({ stallAfterUpMs: 3600, hostConnectInFlight: true })];
    const row = renderTable([sampleRecord({ flaps })])
      .split('\n')
      .at(-1);
    expect(row).toMatch(/^link +weir +0\.4 +3\.6 +0\.3|^link +weir +0\.4 +3\.6 +0\.4/);
  });

  it('sums up long runs', () => {
    const flaps = Array.from({ length: 30 }, (_, index) => sampleFlap({ stallAfterUpMs: index * 100 }));
    expect(renderTable([sampleRecord({ flaps })])).toContain('30: median 1.4, max 2.9');
  });
});

describe('reportSchema', () => {
  it('takes what the runner makes', () => {
    const records = [sampleRecord(), sampleRecord({ target: 'nvmet' })];
    expect(reportSchema.parse(JSON.parse(JSON.stringify(records)))).toEqual(records);
  });

  it('refuses a record without its flaps', () => {
    const { flaps: _, ...rest } = sampleRecord();
    expect(reportSchema.safeParse([rest]).success).toBe(false);
  });
});
