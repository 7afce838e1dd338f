/** Why a target is not accepted. What it served before goes on being served. */
import type { REFUSAL_REASONS } from '../../crds/condition-reasons.ts';

/** CamelCase reason of `Accepted=False`. */
export type RefusalReason = keyof typeof REFUSAL_REASONS;

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
