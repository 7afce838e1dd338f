import { describe, expect, it } from 'vitest';
import { nvmeofTargetNodeSpecSchema, SPEC_FIELD_REVISIONS, SPEC_REVISION } from './nvmeof-target-node.ts';
import { type StructuralSchema, structuralSchema } from './openapi.ts';

/** Every field of the first revision. Not to be added to: a dataplane of it refuses what is not here. */
const FIRST_REVISION = new Set(
  `
  nodeName
  target
  paused
  listeners
  listeners[].name
  listeners[].addressFrom
  listeners[].addressFrom.address
  listeners[].addressFrom.interface
  listeners[].addressFrom.rdmaDevice
  listeners[].addressFrom.cidr
  listeners[].addressFamily
  listeners[].port
  subsystems
  subsystems[].nqn
  subsystems[].serial
  subsystems[].modelNumber
  subsystems[].access
  subsystems[].access.policy
  subsystems[].access.hosts
  subsystems[].access.hosts[].nqn
  subsystems[].controllerIDs
  subsystems[].controllerIDs.first
  subsystems[].controllerIDs.last
  subsystems[].namespaces
  subsystems[].namespaces[].nsid
  subsystems[].namespaces[].uuid
  subsystems[].namespaces[].readOnly
  subsystems[].namespaces[].anaGroup
  subsystems[].namespaces[].backend
  subsystems[].namespaces[].backend.blockDevice
  subsystems[].namespaces[].backend.blockDevice.path
  subsystems[].namespaces[].backend.file
  subsystems[].namespaces[].backend.file.path
  subsystems[].namespaces[].backend.file.sizeBytes
  subsystems[].namespaces[].backend.memory
  subsystems[].namespaces[].backend.memory.sizeBytes
  subsystems[].namespaces[].backend.null
  subsystems[].namespaces[].backend.null.sizeBytes
  queues
  queues.maxIOQueues
  queues.queueDepth
  queues.inCapsuleDataSizeBytes
  queues.maxIOSizeBytes
  keepAlive
  keepAlive.minimumSeconds
  link
  link.holdMilliseconds
  link.drainTimeoutSeconds
  link.upStabilizationMilliseconds
  link.memoryRegistration
  link.memoryRegistration.maxBackoffSeconds
  link.memoryRegistration.allowDegraded
  link.recreateSoftDevice
  polling
  polling.mode
  polling.cores
  buffers
  buffers.smallCount
  buffers.largeCount
  buffers.receiveCount
`
    .trim()
    .split(/\s+/),
);

function fieldsOf(
  schema: StructuralSchema,
  prefix = '',
): { path: string; schema: StructuralSchema; required: boolean }[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const path = prefix === '' ? name : `${prefix}.${name}`;
    const inner = field.items === undefined ? fieldsOf(field, path) : fieldsOf(field.items, `${path}[]`);
    return [{ path, schema: field, required: schema.required?.includes(name) === true }, ...inner];
  });
}

describe('the spec of an NvmeofTargetNode', () => {
  const fields = fieldsOf(structuralSchema(nvmeofTargetNodeSpecSchema, 'spec'));
  const revisions: Readonly<Record<string, number>> = SPEC_FIELD_REVISIONS;
  const newer = fields.filter(({ path }) => !FIRST_REVISION.has(path));

  it('has lost no field: the operator of the release before still writes it', () => {
    const present = new Set(fields.map(({ path }) => path));
    expect([...FIRST_REVISION].filter((path) => !present.has(path))).toEqual([]);
  });

  it('says of every newer field with which revision it came', () => {
    const isNamed = (path: string) =>
      Object.keys(revisions).some((root) => path === root || path.startsWith(`${root}.`));
    const unnamed = newer.filter(({ path }) => !isNamed(path));
    expect(unnamed.map(({ path }) => path)).toEqual([]);
    expect(Math.max(1, ...Object.values(revisions))).toBe(SPEC_REVISION);
  });

  it('has no newer field that is required or has a default, with which it would reach dataplanes that refuse it', () => {
    const roots = newer.filter(({ path }) => revisions[path] !== undefined);
    expect(roots.length).toBe(Object.keys(revisions).length);
    expect(roots.filter(({ required, schema }) => required || schema.default !== undefined)).toEqual([]);
  });
});
