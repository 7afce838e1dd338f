/** Namespace UUIDs: what tells a host that two paths lead to the same data. */
import { createHash } from 'node:crypto';
import { z } from 'zod';

/** RFC 9562 text form, lower case, as the API stores it. */
const UUID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The name space of derived UUIDs; the native core derives with the same one. */
const DERIVATION_NAMESPACE = '7b2f1c1e-6f5e-5c0a-9a52-0d5e1b2a4c77';

/** A UUID in lower case. */
export function uuidSchema(description: string) {
  return z
    .string()
    .min(36)
    .max(36)
    .regex(UUID_PATTERN, { error: 'must be a UUID in lower case, like 6b1f7f0e-2a52-4f0f-8f2f-0e5b8f3c1a10' })
    .describe(description);
}

/** UUID version 5 (RFC 9562, section 5.5) of `name` in Weir's name space. */
function uuidV5(name: string): string {
  const digest = createHash('sha1')
    .update(Buffer.from(DERIVATION_NAMESPACE.replaceAll('-', ''), 'hex'))
    .update(name)
    .digest();
  digest.writeUInt8((digest.readUInt8(6) & 0x0f) | 0x50, 6);
  digest.writeUInt8((digest.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = digest.toString('hex', 0, 16);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/**
 * The UUID of a namespace that names none: a function of the subsystem's NQN and the namespace id only, so that it
 * outlives every process (hosts refuse a namespace whose UUID changed).
 */
export function derivedNamespaceUuid(nqn: string, nsid: number): string {
  return uuidV5(`${nqn}/${nsid}`);
}
