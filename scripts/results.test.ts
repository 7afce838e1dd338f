import { describe, expect, it } from 'vitest';
import { addTallies, tallyLibtest, tallyStep, tallyVitest } from './results.ts';

const libtestOutput = `
running 2 tests
test a ... ok
test b ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.10s
`;

describe('counting tests', () => {
  it('sums the closing lines of all libtest binaries', () => {
    expect(tallyLibtest(libtestOutput, 101)).toEqual({ passed: 5, failed: 1 });
  });

  it('counts a cargo run that could not build as one failure', () => {
    expect(tallyLibtest('error[E0432]: unresolved import', 101)).toEqual({ passed: 0, failed: 1 });
  });

  it('counts a crash after passed tests as a failure', () => {
    const output = 'test result: ok. 4 passed; 0 failed; 0 ignored;';
    expect(tallyLibtest(output, 134)).toEqual({ passed: 4, failed: 1 });
  });

  it('reads passed and failed tests from a vitest report', () => {
    const report = JSON.stringify({ numPassedTests: 7, numFailedTests: 2, testResults: [] });
    expect(tallyVitest(report, 1)).toEqual({ passed: 7, failed: 2 });
  });

  it('counts a test file that failed to load as a failure', () => {
    const report = JSON.stringify({
      numPassedTests: 7,
      numFailedTests: 0,
      testResults: [
        { name: '/clone/a.test.ts', startTime: 0, endTime: 0, status: 'failed', assertionResults: [] },
        { name: '/clone/b.test.ts', startTime: 0, endTime: 0, status: 'passed', assertionResults: [{}] },
      ],
    });
    expect(tallyVitest(report, 1)).toEqual({ passed: 7, failed: 1 });
  });

  it('names the files of vitest that took long, the slowest first', () => {
    const file = (name: string, seconds: number) => ({
      name: `/clone/e2e/${name}`,
      startTime: 1000,
      endTime: 1000 + seconds * 1000,
      status: 'passed',
      assertionResults: [{}],
    });
    const testResults = [file('access.e2e.ts', 3), file('claims.e2e.ts', 70), file('restarts.e2e.ts', 214)];
    expect(
      tallyVitest(JSON.stringify({ numPassedTests: 3, numFailedTests: 0, testResults }), 0).slowest,
    ).toEqual([
      { name: 'restarts.e2e.ts', seconds: 214 },
      { name: 'claims.e2e.ts', seconds: 70 },
    ]);
  });

  it('counts a vitest run without a report as a failure, whatever its exit status', () => {
    expect(tallyVitest(undefined, 0)).toEqual({ passed: 0, failed: 1 });
  });

  it('counts a plain step as one test', () => {
    expect(tallyStep(0)).toEqual({ passed: 1, failed: 0 });
    expect(tallyStep(2)).toEqual({ passed: 0, failed: 1 });
  });

  it('adds tallies', () => {
    expect(addTallies([tallyStep(0), tallyStep(1), { passed: 3, failed: 0 }])).toEqual({
      passed: 4,
      failed: 1,
    });
  });
});
