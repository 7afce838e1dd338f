/** What the core's return codes mean; see the C ABI in native/src/ffi. */
const causes = {
  [-1]: 'NotJson',
  [-2]: 'InvalidSpec',
  [-3]: 'WrongState',
  [-4]: 'SystemError',
  [-5]: 'Panic',
} as const;

/** Why a call into the core failed. `LibraryUnusable`: it could not even be made. */
export type CoreErrorCause = (typeof causes)[keyof typeof causes] | 'LibraryUnusable' | 'Unknown';

/** A call into the native core failed. The message is the core's own and says what to do. */
export class CoreError extends Error {
  readonly code = 'WEIR_CORE';
  readonly reason: CoreErrorCause;

  constructor(reason: CoreErrorCause, message: string) {
    super(message);
    this.name = 'CoreError';
    this.reason = reason;
  }
}

/** The error of a negative return code. */
export function coreError(returnCode: number, message: string): CoreError {
  const reason = (causes as Partial<Record<number, CoreErrorCause>>)[returnCode] ?? 'Unknown';
  return new CoreError(reason, message === '' ? `the core answered ${returnCode}` : message);
}
