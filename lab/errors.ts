/** What went wrong in the lab, as a stable word that tests and scripts may compare. */
export type LabErrorCode =
  | 'CommandFailed'
  | 'GuestFailed'
  | 'GuestPanicked'
  | 'GuestUnreachable'
  | 'LockTimedOut'
  | 'MissingTool'
  | 'NotRunning'
  | 'ProcessEnded'
  | 'TimedOut';

/** A failure of the lab: says what was tried, and where the log is if there is one. */
export class LabError extends Error {
  readonly code: LabErrorCode;
  /** Absolute path of the log that tells more. */
  readonly log: string | undefined;

  constructor(code: LabErrorCode, message: string, details: { log?: string; cause?: unknown } = {}) {
    super(details.log === undefined ? message : `${message} (log: ${details.log})`, { cause: details.cause });
    this.name = 'LabError';
    this.code = code;
    this.log = details.log;
  }
}
