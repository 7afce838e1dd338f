/** What a namespace shares between the user's object and a node's. */
import { z } from 'zod';

/** Most namespaces of a subsystem. */
export const NAMESPACES_MAX = 1024;

/** Largest namespace id: the core advertises this many (NN), so that ids stay small in every list. */
const NSID_MAX = 65535;

/** Namespaces are made of logical blocks of at most this size, so every capacity is a multiple of it. */
export const CAPACITY_UNIT_BYTES = 4096;

const PATH_LENGTH_MAX = 1024;

/** Namespace id. */
export const nsidSchema = z
  .int()
  .min(1)
  .max(NSID_MAX)
  .describe('Namespace id: what the host sees as the number in /dev/nvme0n1. Unique in the target.');

/** ANA group of a namespace. */
export const anaGroupSchema = z
  .int()
  .min(1)
  .max(128)
  .default(1)
  .describe('Asymmetric namespace access group: namespaces of a group change path state together.');

/** Whether hosts may write. */
export const readOnlySchema = z.boolean().default(false).describe('Refuse writes from every host.');

/**
 * One or more parts of a path in printable ASCII, none of them empty or `..`: a path that cannot climb out of the
 * directory it names. A pattern and not a CEL rule, because 1024 namespaces would exceed the cost limit of a rule.
 */
const PATH_PARTS = String.raw`(/([ -\-0-~][ -.0-~]*|\.([ -\-0-~][ -.0-~]*)?|\.\.[ -.0-~]+))+`;

const pathSchema = (pattern: RegExp, error: string, description: string) =>
  z.string().min(2).max(PATH_LENGTH_MAX).regex(pattern, { error }).describe(description);

/** An absolute path. */
export function absolutePathSchema(description: string) {
  return pathSchema(
    new RegExp(`^${PATH_PARTS}$`),
    'must be an absolute path without empty or .. parts, like /var/lib/weir/fast.img',
    description,
  );
}

/** A block device of the node. */
export const blockDeviceSchema = z
  .strictObject({
    path: pathSchema(
      new RegExp(`^/dev${PATH_PARTS}$`),
      'must be a path below /dev without empty or .. parts, like /dev/disk/by-id/nvme-…',
      'Path of the device, best a stable one below /dev/disk/by-id/.',
    ),
  })
  .describe('A block device of the node.');
