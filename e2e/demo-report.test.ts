import { describe, expect, it } from 'vitest';
import { type DemoReport, emptyReport, isSuccess, renderSummary } from './demo-report.ts';

const good = (): DemoReport => ({
  ...emptyReport(),
  hostConnected: true,
  namespaceAddedLive: true,
  fio: [
    {
      namespace: '1',
      ok: true,
      verifyErrors: 0,
      ioErrors: 0,
      writeIops: 1,
      readIops: 1,
      meanLatencyMicroseconds: 1,
    },
  ],
  flaps: [{ downMs: 3000, stallAfterUpMs: 900, hostConnectInFlight: false }],
  steps: [{ name: 'lab', seconds: 1, ok: true }],
});

describe('isSuccess', () => {
  it('holds when every promise was kept', () => {
    expect(isSuccess(good(), 1)).toBe(true);
  });

  it.each([
    ['the host never connected', { hostConnected: false }],
    ['a verification failed', { fio: [{ ...good().fio[0], verifyErrors: 1 }] }],
    ['an I/O failed', { fio: [{ ...good().fio[0], ioErrors: 1 }] }],
    ['there was no I/O', { fio: [] }],
    ['an outage is missing', { flaps: [] }],
    ['the dataplane restarted', { dataplaneRestarts: 1 }],
    ['a step failed', { steps: [{ name: 'lab', seconds: 1, ok: false }] }],
    ['the added namespace was not seen', { namespaceAddedLive: false }],
  ])('does not hold when %s', (_name, change) => {
    expect(isSuccess({ ...good(), ...change } as DemoReport, 1)).toBe(false);
  });
});

describe('renderSummary', () => {
  it('names every outage and every step', () => {
    const text = renderSummary(good());
    expect(text).toContain('outage 1');
    expect(text).toContain('I/O again 0.9 s after link-up');
    expect(text).toContain('lab');
    expect(text).toMatch(/from helm install to first I\/O +NONE/);
    expect(renderSummary({ ...good(), installToFirstIoSeconds: 61.24 })).toMatch(/first I\/O +61\.2 s/);
    expect(text).not.toContain('connect of its own');
  });

  it('tells the outages whose end met the host in a connect of its own', () => {
    const flaps = [{ downMs: 3000, stallAfterUpMs: 2400, hostConnectInFlight: true }];
    expect(renderSummary({ ...good(), flaps })).toContain(
      'I/O again 2.4 s after link-up, which met the host in a connect of its own',
    );
  });
});
