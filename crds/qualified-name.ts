/** NVMe qualified names (NVM Express Base specification 2.0, section 4.5) of subsystems and hosts. */
import { createHash } from 'node:crypto';
import { z } from 'zod';

/** Longest NQN in bytes (NVM Express Base 2.0, 4.5). */
export const NQN_LENGTH_MAX = 223;

/**
 * `nqn.<yyyy-mm>.<reverse domain>:<name>`, printable ASCII. The form without a colon is left out on purpose: it is
 * the well-known discovery NQN, which neither a subsystem nor a host may take.
 */
const NQN_PATTERN = /^nqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*:[!-~]+$/;

/** An NQN of a subsystem or a host. */
export function nqnSchema(description: string) {
  return z
    .string()
    .min(11)
    .max(NQN_LENGTH_MAX)
    .regex(NQN_PATTERN, {
      error: 'must look like nqn.2026-11.com.example:name (nqn.<year>-<month>.<reverse domain>:<name>)',
    })
    .describe(description);
}

/** Naming authority of derived NQNs. */
const DERIVED_PREFIX = 'nqn.2026-11.dev.weir:';

/** Hex digits of the object's UID in a derived NQN: the same name in two clusters must not be one subsystem. */
const UID_DIGITS = 8;

/** The NQN of a target that names none: readable, and unlike that of any other object, in this cluster or another. */
export function derivedNqn(namespace: string, name: string, uid: string): string {
  const suffix = `:${createHash('sha256').update(uid).digest('hex').slice(0, UID_DIGITS)}`;
  const room = NQN_LENGTH_MAX - DERIVED_PREFIX.length - suffix.length;
  return `${DERIVED_PREFIX}${`${namespace}.${name}`.slice(0, room)}${suffix}`;
}

/** The NQN of one node's subsystem of a target with scope `PerNode`. May exceed {@link NQN_LENGTH_MAX}. */
export function perNodeNqn(nqn: string, nodeName: string): string {
  return `${nqn}:${nodeName}`;
}
