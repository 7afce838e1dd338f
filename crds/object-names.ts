/** Names of child objects: a pure function of the parent's name, so that operator and dataplane agree. */
import { createHash } from 'node:crypto';

/** Longest metadata.name that every kind accepts (RFC 1123 subdomain). */
const SUBDOMAIN_LENGTH_MAX = 253;

/** Longest label value, and longest name of an NvmeofTarget: its name is a label on its children. */
export const LABEL_VALUE_LENGTH_MAX = 63;

/** Hex digits of the hash that replaces what was cut off: 40 bits keep a thousand nodes apart. */
const HASH_DIGITS = 10;

/**
 * Prefix of the DaemonSet, ServiceAccount, Role and RoleBinding of a target. The chart's ValidatingAdmissionPolicy
 * tells dataplanes by it; no object of the chart itself begins with it.
 */
const CHILD_PREFIX = 'weir-target-';

function shorten(name: string, lengthMax: number): string {
  if (name.length <= lengthMax) return name;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, HASH_DIGITS);
  const head = name.slice(0, lengthMax - HASH_DIGITS - 1).replace(/[^a-zA-Z0-9]+$/, '');
  return `${head}-${hash}`;
}

/** Name of the NvmeofTargetNode of a target on a node: `<target>-<node>`, shortened with a hash when too long. */
export function targetNodeName(targetName: string, nodeName: string): string {
  return shorten(`${targetName}-${nodeName}`, SUBDOMAIN_LENGTH_MAX);
}

/** Name of a target's DaemonSet, ServiceAccount, Role and RoleBinding: `weir-target-<target>`. */
export function childName(targetName: string): string {
  return `${CHILD_PREFIX}${targetName}`;
}

/** A label value for a name that may be longer than a label may be. */
export function labelValue(name: string): string {
  return shorten(name, LABEL_VALUE_LENGTH_MAX);
}
