import { describe, expect, it } from 'vitest';
import { nvmeofTargetNodeSpecSchema } from './nvmeof-target-node.ts';
import { InvalidInputError, parseOrExplain } from './validation.ts';

const minimal = {
  nodeName: 'node-a',
  target: 'storage/fast',
  listeners: [{ name: 'storage', addressFrom: { address: '10.9.0.1' } }],
  subsystems: [{ nqn: 'nqn.2026-11.dev.weir:fast' }],
};

describe('an NvmeofTargetNode', () => {
  it('is complete for the core once defaults are filled in', () => {
    const spec = nvmeofTargetNodeSpecSchema.parse(minimal);
    expect(spec.subsystems[0]).toMatchObject({ modelNumber: 'Weir', namespaces: [] });
    expect(spec.buffers).toEqual({ smallCount: 512, largeCount: 64, receiveCount: 1024 });
    expect(spec.polling).toEqual({ mode: 'Adaptive', cores: 1 });
  });

  it.each([
    ['null', { null: { sizeBytes: 4096 } }],
    ['memory', { memory: { sizeBytes: 4096 } }],
    ['file', { file: { path: '/var/lib/weir/..not-parent/a', sizeBytes: 4096 } }],
    ['block device', { blockDevice: { path: '/dev/disk/by-id/nvme-1' } }],
  ])('takes a %s backend', (_, backend) => {
    const subsystems = [{ ...minimal.subsystems[0], namespaces: [{ nsid: 1, backend }] }];
    expect(nvmeofTargetNodeSpecSchema.safeParse({ ...minimal, subsystems }).success).toBe(true);
  });

  it.each([
    ['a size of 0', { memory: { sizeBytes: 0 } }],
    ['a size that is no multiple of 4096', { memory: { sizeBytes: 5000 } }],
    ['two backends', { memory: { sizeBytes: 4096 }, null: { sizeBytes: 4096 } }],
  ])('refuses %s', (_, backend) => {
    const subsystems = [{ ...minimal.subsystems[0], namespaces: [{ nsid: 1, backend }] }];
    expect(nvmeofTargetNodeSpecSchema.safeParse({ ...minimal, subsystems }).success).toBe(false);
  });

  it('refuses a controller id range that runs backwards', () => {
    const subsystems = [{ ...minimal.subsystems[0], controllerIDs: { first: 9, last: 8 } }];
    expect(nvmeofTargetNodeSpecSchema.safeParse({ ...minimal, subsystems }).success).toBe(false);
  });

  it('is explained as a file when it is wrong', () => {
    const read = () => parseOrExplain(nvmeofTargetNodeSpecSchema, { ...minimal, nodeName: 7 }, 'target.yaml');
    expect(read).toThrow(InvalidInputError);
    expect(read).toThrow('target.yaml is not valid:\nnodeName: must be of type string, not 7');
  });

  it('is explained when the document is empty', () => {
    const read = () => parseOrExplain(nvmeofTargetNodeSpecSchema, null, 'target.yaml');
    expect(read).toThrow('(document): must be of type object, not null');
  });
});
