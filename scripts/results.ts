import { basename } from 'node:path';

/** What a stage did, in tests. A step that is no test suite counts as one test. */
export interface Tally {
  passed: number;
  failed: number;
  /** Where a long suite's time went. */
  slowest?: readonly SlowFile[];
}

/** A file of tests that took long. */
export interface SlowFile {
  name: string;
  /** Of its tests, without what it sets up for all of them. */
  seconds: number;
}

/** Files that take longer are named one by one at the end of a run. */
const SLOW_SECONDS = 20;

/** The sum of several tallies. */
export function addTallies(tallies: readonly Tally[]): Tally {
  return {
    passed: tallies.reduce((sum, tally) => sum + tally.passed, 0),
    failed: tallies.reduce((sum, tally) => sum + tally.failed, 0),
  };
}

/** A step without tests of its own: one test that passed if it exited with 0. */
export function tallyStep(exitCode: number): Tally {
  return exitCode === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

/**
 * Counts the tests in the output of `cargo test` (libtest's closing line of every test binary).
 * A run that exited with an error without any failed test (a build error, a crash) counts as one failure.
 */
export function tallyLibtest(output: string, exitCode: number): Tally {
  const closingLine = /^test result: (?:ok|FAILED)\. (\d+) passed; (\d+) failed;/gm;
  const tally = addTallies(
    [...output.matchAll(closingLine)].map((match) => ({
      passed: Number(match[1]),
      failed: Number(match[2]),
    })),
  );
  return withCrash(tally, exitCode);
}

/** The part of vitest's JSON report that is counted. */
interface VitestReport {
  numPassedTests: number;
  numFailedTests: number;
  testResults: {
    name: string;
    status: string;
    /** Milliseconds since the epoch. */
    startTime: number;
    endTime: number;
    assertionResults: unknown[];
  }[];
}

/**
 * Counts the tests in a report of vitest's JSON reporter. A file that failed before it had any test counts as
 * one failure, and so does a run that exited with an error without any failed test. `undefined`: no report
 * was written.
 */
export function tallyVitest(report: string | undefined, exitCode: number): Tally {
  if (report === undefined) return withCrash({ passed: 0, failed: 0 }, exitCode === 0 ? 1 : exitCode);
  const parsed = JSON.parse(report) as VitestReport;
  const brokenFiles = parsed.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  const slowest = parsed.testResults
    .map(({ name, startTime, endTime }) => ({ name: basename(name), seconds: (endTime - startTime) / 1000 }))
    .filter((file) => file.seconds > SLOW_SECONDS)
    .sort((a, b) => b.seconds - a.seconds);
  const tally = { passed: parsed.numPassedTests, failed: parsed.numFailedTests + brokenFiles.length };
  return { ...withCrash(tally, exitCode), ...(slowest.length > 0 ? { slowest } : {}) };
}

function withCrash(tally: Tally, exitCode: number): Tally {
  return exitCode !== 0 && tally.failed === 0 ? { passed: tally.passed, failed: 1 } : tally;
}
