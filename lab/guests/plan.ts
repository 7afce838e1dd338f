import { createHash } from 'node:crypto';
import { LabError } from '../errors.ts';

/** A node runs pods and targets; a host connects to targets. */
export type GuestRole = 'node' | 'host';

/** Everything about a guest that follows from its name: `node-a`, `node-b`, … and `host-a`, `host-b`, …. */
export interface GuestPlan {
  name: string;
  role: GuestRole;
  /** Unique in the lab; 1 for `node-a`, 2 for `host-a`. */
  number: number;
  memoryMiB: number;
  cpus: number;
  /** Address in QEMU's user network, unique although each guest has a network of its own. */
  managementAddress: string;
  managementMac: string;
  rdmaAddress: string;
  rdmaAddressIPv6: string;
  rdmaMac: string;
  /** Network of the node's pods. */
  podRange: string;
  /** Identity of the host for targets (nodes have one too: they can connect for tests). */
  hostNqn: string;
  hostId: string;
}

const HOST_NUMBER_FIRST = 2;
const HOSTS_MAX = 8;
const NODE_NUMBER_SECOND = 11;
const NODES_MAX = 5;

/** The plan of a guest by its name. */
export function planGuest(name: string): GuestPlan {
  const match = /^(node|host)-([a-h])$/.exec(name);
  const index = (match?.[2] ?? 'a').charCodeAt(0) - 'a'.charCodeAt(0);
  const role = match?.[1] as GuestRole | undefined;
  if (role === undefined || index >= (role === 'node' ? NODES_MAX : HOSTS_MAX)) {
    throw new LabError('GuestFailed', `no guest can be called ${name}: node-a to node-e, host-a to host-h`);
  }
  const number = numberOf(role, index);
  const hex = number.toString(16).padStart(2, '0');
  const hostId = uuidOf(`weir-lab/${name}`);
  return {
    name,
    role,
    number,
    memoryMiB: role === 'node' ? 3072 : 1536,
    cpus: 2,
    managementAddress: `10.0.2.${100 + number}`,
    managementMac: `52:54:00:00:02:${hex}`,
    rdmaAddress: `10.9.0.${number}`,
    rdmaAddressIPv6: `fd09::${hex}`,
    rdmaMac: `52:54:00:00:09:${hex}`,
    podRange: `10.244.${number}.0/24`,
    hostNqn: `nqn.2014-08.org.nvmexpress:uuid:${hostId}`,
    hostId,
  };
}

/** Names of the first guests of a role. */
export function guestNames(role: GuestRole, count: number): string[] {
  return Array.from(
    { length: count },
    (_, index) => `${role}-${String.fromCharCode('a'.charCodeAt(0) + index)}`,
  );
}

function numberOf(role: GuestRole, index: number): number {
  if (role === 'host') {
    return HOST_NUMBER_FIRST + index;
  }
  return index === 0 ? 1 : NODE_NUMBER_SECOND + index - 1;
}

/** The same name always gives the same identifier, so that allow-lists can be written down. */
function uuidOf(text: string): string {
  const hex = createHash('sha1').update(text).digest('hex').slice(0, 32).split('');
  hex[12] = '5';
  hex[16] = '89ab'.charAt(Number.parseInt(hex[16] ?? '0', 16) % 4);
  return hex.join('').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
