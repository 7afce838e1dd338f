/** Why a dataplane leaves, as its last word says it. */
import type { FAREWELL_REASONS } from '../crds/condition-reasons.ts';
import type { Silence } from '../crds/silent-status.ts';
import type { DrainResult } from './dataplane.ts';
import { exitCodes } from './exit-codes.ts';

type Reason = keyof typeof FAREWELL_REASONS;

const exitReasons: Readonly<Record<number, Reason>> = {
  [exitCodes.deviceRemoved]: 'DeviceRemoved',
  [exitCodes.recreateDevice]: 'RecreatingDevice',
};

/** The core ends the process; `message` is its own. */
export function exitFarewell(exitCode: number, message: string): Silence {
  const reason: Reason = exitReasons[exitCode] ?? 'Fatal';
  return { reason, message: `the dataplane left with exit code ${exitCode}: ${message}` };
}

/** Somebody asked the process to stop. */
export function signalFarewell(signal: string, drain: DrainResult): Silence {
  const reason: Reason = 'Stopped';
  const inFlight = drain === 'completed' ? '' : '; I/O was still in flight when the drain timeout was over';
  return { reason, message: `the dataplane was stopped (${signal}) and left${inFlight}` };
}
