import { describe, expect, it } from 'vitest';
import { type FioRun, fioArguments, parseFioReport, whileRunning } from './fio.ts';

const direction = (ios: number, iops: number) => ({
  iops,
  total_ios: ios,
  clat_ns: { mean: 2_000_000, percentile: { '99.000000': 5_000_000 } },
});
const report = (error: number, totalErr: number) =>
  JSON.stringify({
    jobs: [{ error, total_err: totalErr, read: direction(10, 5), write: direction(20, 10) }],
  });

describe('parseFioReport', () => {
  it('is ok only with I/O done and no error of any kind', () => {
    expect(parseFioReport(report(0, 0), '', 0)).toMatchObject({
      ok: true,
      verifyErrors: 0,
      ioErrors: 0,
      writeIops: 10,
      meanLatencyMicroseconds: 2000,
    });
  });

  it('counts data that reads back wrong as a verification error', () => {
    const result = parseFioReport(report(84, 1), 'verify: bad header at offset 4096', 1);
    expect(result).toMatchObject({ ok: false, verifyErrors: 1, ioErrors: 0 });
  });

  it('counts other errors as I/O errors', () => {
    expect(parseFioReport(report(5, 3), '', 1)).toMatchObject({ ok: false, verifyErrors: 0, ioErrors: 3 });
  });

  it('takes a run that was interrupted in good order for what it did', () => {
    expect(parseFioReport(`fio: terminating on signal 2\n${report(0, 0)}`, '', 128).ok).toBe(true);
    expect(parseFioReport(report(84, 1), '', 128)).toMatchObject({ ok: false, verifyErrors: 1 });
  });

  it('reads past warnings printed before the report', () => {
    expect(parseFioReport(`note: something\n${report(0, 0)}`, '', 0).ok).toBe(true);
  });

  it('takes a missing or broken report as a failed run', () => {
    expect(parseFioReport('', 'fio: killed', 1).ok).toBe(false);
    expect(parseFioReport('{"jobs": []}', '', 0).ok).toBe(false);
    expect(parseFioReport('{"jobs": [', '', 0).ok).toBe(false);
  });
});

describe('fioArguments', () => {
  it('compares what it wrote while it goes on writing', () => {
    const job = {
      device: 'nvme0n1',
      runtimeSeconds: 5,
      blockSizeBytes: 4096,
      ioDepth: 4,
      sizeBytes: 1 << 20,
      mode: 'verify',
    } as const;
    expect(fioArguments(job)).toContain('--verify=crc32c');
    expect(fioArguments({ ...job, mode: 'randread' })).not.toContain('--verify=crc32c');
  });
});

describe('whileRunning', () => {
  const run = (result: FioRun['result']): FioRun => ({
    result,
    stop: () => result,
    kill: () => Promise.resolve(),
  });
  const goesOn = run(new Promise<never>(() => undefined));

  it('gives what the work gave while all runs go on', async () => {
    await expect(whileRunning([goesOn], async () => 7)).resolves.toBe(7);
  });

  it('throws with what fio printed as soon as one of them ends', async () => {
    const ended = run(Promise.resolve(parseFioReport('', 'fio: no memory', 1)));
    await expect(whileRunning([goesOn, ended], () => new Promise(() => undefined))).rejects.toThrow(
      'fio 2 of 2 ended before its time: {"ok":false',
    );
    await expect(whileRunning([ended], () => new Promise(() => undefined))).rejects.toThrow('fio: no memory');
  });
});
