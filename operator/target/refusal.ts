/** Why a target is not accepted. What it served before goes on being served. */

/** CamelCase reasons of `Accepted=False`. Part of the API: alerts and scripts may match them. */
export type RefusalReason =
  | 'InvalidSpec'
  | 'NQNTooLong'
  | 'NQNInUse'
  | 'ListenerConflict'
  | 'PathNotAllowed'
  | 'DataNotShared'
  | 'TooManyNodes'
  | 'MemoryLimitTooLow'
  | 'NoFreePort';

/** A refusal: a reason for programs, and for people what to change. */
export class Refusal extends Error {
  /** Stable name of this kind of error. */
  readonly code = 'WEIR_TARGET_REFUSED';
  /** See {@link RefusalReason}. */
  readonly reason: RefusalReason;

  constructor(reason: RefusalReason, message: string) {
    super(message);
    this.name = 'Refusal';
    this.reason = reason;
  }
}
