/** Where a target listens. The same shape in the user's object and in a node's: the core resolves the address. */
import { BlockList, isIP } from 'node:net';
import { z } from 'zod';
import { exactlyOneOf, mapList, withRule } from './rule.ts';

/** Most listeners of a target. */
const LISTENERS_MAX = 16;

/** IANA's port for NVMe over RDMA. */
const NVME_RDMA_PORT = 4420;

/** A name that may stand in metrics labels, paths and events (RFC 1123 label). */
export const dnsLabelSchema = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, {
    error: 'must be lower-case letters, digits and dashes, beginning and ending with a letter or digit',
  });

function isCidr(text: string): boolean {
  const [address, prefix, rest] = text.split('/');
  if (address === undefined || prefix === undefined || rest !== undefined || !/^[0-9]{1,3}$/.test(prefix))
    return false;
  try {
    new BlockList().addSubnet(address, Number(prefix), isIP(address) === 6 ? 'ipv6' : 'ipv4');
    return isIP(address) !== 0;
  } catch {
    return false;
  }
}

const addressSchema = withRule(
  z.string().min(2).max(45).describe('This IP address.'),
  { rule: 'isIP(self)', message: 'must be an IPv4 or IPv6 address, like 10.9.0.1' },
  (address) => isIP(address) !== 0 && !address.includes('%'),
);

const cidrSchema = withRule(
  z
    .string()
    .min(4)
    .max(49)
    .describe('The one address of the node that lies in this network, like 10.9.0.0/24.'),
  { rule: 'isCIDR(self)', message: 'must be a network in CIDR notation, like 10.9.0.0/24' },
  isCidr,
);

const addressFromSchema = exactlyOneOf(
  z.strictObject({
    address: addressSchema.optional(),
    interface: z
      .string()
      .min(1)
      .max(15)
      .regex(/^[^/\s:]+$/, { error: 'must be the name of a network interface, like eth0' })
      .describe('The first usable address of this network interface.')
      .optional(),
    rdmaDevice: z
      .string()
      .min(1)
      .max(63)
      .regex(/^[A-Za-z0-9_.-]+$/, { error: 'must be the name of an RDMA device, like mlx5_0 or rxe0' })
      .describe("The first usable address of this RDMA device's network interface.")
      .optional(),
    cidr: cidrSchema.optional(),
  }),
  ['address', 'interface', 'rdmaDevice', 'cidr'],
).describe('Where the address comes from. Resolved on each node, and followed when it changes.');

const listenerObject = z.strictObject({
  name: dnsLabelSchema.describe('Name of the listener, unique in the target; a label of its metrics.'),
  addressFrom: addressFromSchema,
  addressFamily: z
    .enum(['IPv4', 'IPv6'])
    .default('IPv4')
    .describe('Family of the address that interface, rdmaDevice or cidr resolve to.'),
  port: z.int().min(1).max(65535).default(NVME_RDMA_PORT).describe('RDMA port that hosts connect to.'),
});

/** One listener. */
export const listenerSchema = withRule(
  listenerObject,
  {
    rule: "(!has(self.addressFrom.address) || self.addressFrom.address.contains(':') == (self.addressFamily == 'IPv6')) && (!has(self.addressFrom.cidr) || self.addressFrom.cidr.contains(':') == (self.addressFamily == 'IPv6'))",
    message:
      'address and addressFamily disagree: set addressFamily: IPv6 for an IPv6 address or network, IPv4 otherwise',
  },
  (listener) => {
    const text = listener.addressFrom.address ?? listener.addressFrom.cidr;
    return text === undefined || text.includes(':') === (listener.addressFamily === 'IPv6');
  },
).describe('An address and port on which hosts reach the target.');

/** One listener. */
export type Listener = z.output<typeof listenerSchema>;

function block(text: string): { list: BlockList; address: string; family: 'ipv4' | 'ipv6' } {
  const [address = '', prefix] = text.split('/');
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
  const list = new BlockList();
  list.addSubnet(address, Number(prefix ?? (family === 'ipv6' ? 128 : 32)), family);
  return { list, address, family };
}

/** Whether one network (or address) lies in the other. */
function overlaps(left: string, right: string): boolean {
  const [a, b] = [block(left), block(right)];
  return a.list.check(b.address, b.family) || b.list.check(a.address, a.family);
}

/**
 * Whether two listeners of one node bind the same address and port, as far as that is written in them: an interface
 * or a device may have the address that the other names, which only the node knows.
 */
export function listenersClash(left: Listener, right: Listener): boolean {
  if (left.port !== right.port || left.addressFamily !== right.addressFamily) return false;
  const [a, b] = [left.addressFrom, right.addressFrom];
  const [first, second] = [a.address ?? a.cidr, b.address ?? b.cidr];
  if (first !== undefined && second !== undefined) return overlaps(first, second);
  return listenerBinding(left) === listenerBinding(right);
}

/** Identity of what a listener binds: two listeners of one node with the same identity cannot both be served. */
export function listenerBinding(listener: Listener): string {
  const { address, interface: networkInterface, rdmaDevice, cidr } = listener.addressFrom;
  const source = [address, networkInterface, rdmaDevice, cidr].map((part) => part ?? '').join('|');
  return `${source}|${listener.addressFamily}|${listener.port}`;
}

/** A target's listeners. */
export const listenersSchema = withRule(
  mapList(listenerSchema, ['name'], { minItems: 1, maxItems: LISTENERS_MAX }),
  {
    rule: 'self.all(a, self.exists_one(b, a.port == b.port && a.addressFamily == b.addressFamily && a.addressFrom == b.addressFrom))',
    message: 'two listeners have the same address and port: give each its own port or address',
  },
  (listeners) => new Set(listeners.map(listenerBinding)).size === listeners.length,
).describe(
  'Where hosts reach the target. Each listener has its own link life: one that flaps leaves the others alone.',
);
