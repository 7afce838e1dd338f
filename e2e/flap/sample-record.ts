/** A record in which everything went well, for tests. */
import type { FlapRecord, ScenarioRecord } from './report.ts';

/** A flap as it should be, changed as said. */
export function sampleFlap(change: Partial<FlapRecord> = {}): FlapRecord {
  return {
    downMs: 3000,
    stallAfterUpMs: 400,
    hostIoErrors: 0,
    hostConnectInFlight: false,
    hostToldAfterUpMs: 250,
    portServingAfterUpMs: 350,
    rssKiB: null,
    anonymousKiB: null,
    reconnects: 1,
    remarks: [],
    missed: [],
    ...change,
  };
}

/** A scenario as it should be, changed as said. */
export function sampleRecord(change: Partial<ScenarioRecord> = {}): ScenarioRecord {
  return {
    target: 'weir',
    scenario: 'link',
    flaps: [sampleFlap()],
    verifyErrors: 0,
    fioIoErrors: 0,
    reconnects: 1,
    targetRestarts: 0,
    leaks: { fds: 0, qps: 0, mrs: 0, cqs: 0, pds: 0, cmIds: 0, rssKiB: 12, anonymousKiB: 4 },
    memorySlope: null,
    limits: { stallMs: 2000, stallConnectInFlightMs: 5000, portServingMs: 1000, restarts: 0 },
    managementQueuePairDied: false,
    machineLoad: 1.5,
    kernel: '6.12.0',
    startedAt: '2026-11-23T11:00:00.000Z',
    rate: { binMs: 500, finished: [100, 100, 0, 0, 90], outages: [[1000, 2000]] },
    ...change,
  };
}
