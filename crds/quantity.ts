/** Kubernetes quantities (`10Gi`, `500M`, `4096`) as whole bytes. */

const DECIMAL_FACTORS: Readonly<Record<string, bigint>> = {
  '': 1n,
  k: 10n ** 3n,
  M: 10n ** 6n,
  G: 10n ** 9n,
  T: 10n ** 12n,
  P: 10n ** 15n,
  Ki: 1n << 10n,
  Mi: 1n << 20n,
  Gi: 1n << 30n,
  Ti: 1n << 40n,
  Pi: 1n << 50n,
};

/** Digits, an optional fraction, an optional suffix. Milli and exponent forms make no sense for bytes. */
const BYTE_QUANTITY_PATTERN = /^[0-9]{1,15}(\.[0-9]{1,6})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$/;

/** A capacity: as above without a fraction, which CEL does not take for an integer even where it comes to one. */
export const SIZE_PATTERN = /^[0-9]{1,15}(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$/;

/** Bytes of a quantity, or undefined when it is not one, is no whole number of bytes or is beyond 2^53 - 1. */
export function quantityToBytes(quantity: string): number | undefined {
  if (!BYTE_QUANTITY_PATTERN.test(quantity)) return undefined;
  const parts = /^([0-9]+)(?:\.([0-9]+))?([A-Za-z]*)$/.exec(quantity);
  const factor = DECIMAL_FACTORS[parts?.[3] ?? ''];
  if (parts?.[1] === undefined || factor === undefined) return undefined;
  const fraction = parts[2] ?? '';
  const scale = 10n ** BigInt(fraction.length);
  const scaled = BigInt(parts[1] + fraction) * factor;
  if (scaled % scale !== 0n) return undefined;
  const bytes = scaled / scale;
  return bytes <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(bytes) : undefined;
}
