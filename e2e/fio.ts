/** fio with verification, in a host guest. */
import { z } from 'zod';
import type { GuestShell, RunningCommand } from './guest-shell.ts';

/** What a run writes, and how. */
export interface FioJob {
  /** Block device without `/dev/`. */
  readonly device: string;
  readonly runtimeSeconds: number;
  readonly blockSizeBytes: number;
  readonly ioDepth: number;
  /** Bytes from the start of the device that the job uses. */
  readonly sizeBytes: number;
  /** `verify`: random writes, each read back and compared; `randread`: reads only, for figures. */
  readonly mode: 'verify' | 'randread' | 'randwrite';
}

/** Outcome of a run. */
export interface FioResult {
  readonly ok: boolean;
  readonly verifyErrors: number;
  readonly ioErrors: number;
  readonly readIops: number;
  readonly writeIops: number;
  /** Mean completion latency, microseconds, over reads or writes, whichever the job does. */
  readonly meanLatencyMicroseconds: number;
  readonly p99LatencyMicroseconds: number;
  /** What fio printed, where it printed no report. */
  readonly printed?: string;
}

const directionSchema = z.object({
  iops: z.number(),
  total_ios: z.number(),
  clat_ns: z.object({
    mean: z.number(),
    percentile: z.record(z.string(), z.number()).optional(),
  }),
});
const reportSchema = z.object({
  jobs: z
    .array(
      z.object({
        error: z.number(),
        total_err: z.number().optional(),
        read: directionSchema,
        write: directionSchema,
      }),
    )
    .min(1),
});

/** `EILSEQ`: what fio ends with when data read back is not what was written. */
const VERIFY_ERRNO = 84;
/** What fio ends with when it was interrupted and all went well. */
const INTERRUPTED = 128;
/** fio needs this long beyond its run time, at most, to drain and print on an emulated guest under flaps. */
const FIO_GRACE_SECONDS = 180;

/** Blocks written before they are read back and compared. */
const VERIFY_BACKLOG_BLOCKS = 256;
/**
 * After so many more I/Os every write up to now has been read back: the rest of one backlog is written, all of it read,
 * and that in the worst case follows a reading that was just under way.
 */
export const FLOW_UNTIL_VERIFIED = 3 * VERIFY_BACKLOG_BLOCKS;

/** The arguments of a job. */
export function fioArguments(job: FioJob): string[] {
  const common = [
    'fio',
    '--name=weir',
    `--filename=/dev/${job.device}`,
    '--ioengine=libaio',
    '--direct=1',
    '--thread',
    `--bs=${job.blockSizeBytes}`,
    `--iodepth=${job.ioDepth}`,
    `--size=${job.sizeBytes}`,
    '--time_based',
    `--runtime=${job.runtimeSeconds}`,
    '--output-format=json',
    '--continue_on_error=all',
  ];
  if (job.mode !== 'verify') return [...common, `--rw=${job.mode}`];
  // The backlog makes fio read back and compare while it goes on writing, so a lost or mixed write shows at once.
  return [
    ...common,
    '--rw=randwrite',
    '--verify=crc32c',
    `--verify_backlog=${VERIFY_BACKLOG_BLOCKS}`,
    '--verify_state_save=0',
    '--serialize_overlap=1',
  ];
}

/** Reads fio's report. Anything but clean JSON with a job in it is a failed run, not an exception. */
export function parseFioReport(stdout: string, stderr: string, exitCode: number): FioResult {
  const failed: FioResult = {
    ok: false,
    verifyErrors: 0,
    ioErrors: 1,
    readIops: 0,
    writeIops: 0,
    meanLatencyMicroseconds: 0,
    p99LatencyMicroseconds: 0,
  };
  const start = stdout.indexOf('{');
  if (start < 0) return { ...failed, printed: `exit code ${exitCode}: ${stdout}${stderr}`.trim() };
  let report: z.infer<typeof reportSchema>;
  try {
    report = reportSchema.parse(JSON.parse(stdout.slice(start)));
  } catch {
    return failed;
  }
  const [job] = report.jobs;
  if (job === undefined) return failed;
  const text = `${stdout.slice(0, start)}\n${stderr}`;
  const verifyLines = text
    .split('\n')
    .filter((line) => /^verify:|: verify failed|bad magic/.test(line)).length;
  const verifyErrors = Math.max(verifyLines, job.error === VERIFY_ERRNO ? 1 : 0);
  const counted = Math.max(job.total_err ?? 0, job.error === 0 ? 0 : 1);
  const ioErrors = Math.max(0, counted - verifyErrors);
  const main = job.write.total_ios > 0 ? job.write : job.read;
  return {
    ok:
      (exitCode === 0 || exitCode === INTERRUPTED) &&
      verifyErrors === 0 &&
      ioErrors === 0 &&
      main.total_ios > 0,
    verifyErrors,
    ioErrors,
    readIops: job.read.iops,
    writeIops: job.write.iops,
    meanLatencyMicroseconds: main.clat_ns.mean / 1000,
    p99LatencyMicroseconds: (main.clat_ns.percentile?.['99.000000'] ?? 0) / 1000,
  };
}

/** A run in progress. */
export interface FioRun {
  readonly result: Promise<FioResult>;
  /** Ends the run before its time, in good order; what it did until then. */
  stop(): Promise<FioResult>;
  kill(): Promise<void>;
}

/** Starts a job in a guest. */
export function startFio(shell: GuestShell, guest: string, job: FioJob): FioRun {
  const running: RunningCommand = shell.spawn(guest, fioArguments(job), {
    timeoutSeconds: job.runtimeSeconds + FIO_GRACE_SECONDS,
  });
  const result = running.finished.then((ended) => parseFioReport(ended.stdout, ended.stderr, ended.exitCode));
  // Whoever only kills the run must not be ended by how it ended.
  result.catch(() => undefined);
  return {
    result,
    stop: () => {
      running.interrupt();
      return result;
    },
    kill: () => running.kill(),
  };
}

/**
 * Does something while runs go on. Throws at once, with what fio left behind, when one of them ends meanwhile: waiting for
 * its I/O would say nothing but that there was none.
 */
export async function whileRunning<Result>(
  runs: readonly FioRun[],
  work: () => Promise<Result>,
): Promise<Result> {
  const ended = runs.map(async (run, index): Promise<never> => {
    const result = await run.result;
    throw new Error(`fio ${index + 1} of ${runs.length} ended before its time: ${JSON.stringify(result)}`);
  });
  return Promise.race([work(), ...ended]);
}
