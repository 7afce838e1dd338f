/** A desired state for tests. */
import {
  type NvmeofTargetNodeSpec,
  type NvmeofTargetNodeSpecInput,
  nvmeofTargetNodeSpecSchema,
} from '../crds/nvmeof-target-node.ts';

/** As it may be written: one listener, one memory namespace, one host. */
export const sampleSpecInput: NvmeofTargetNodeSpecInput = {
  nodeName: 'node-a',
  target: 'storage/fast',
  listeners: [{ name: 'storage', addressFrom: { address: '10.9.0.1' } }],
  subsystems: [
    {
      nqn: 'nqn.2026-11.dev.weir:fast',
      access: { hosts: [{ nqn: 'nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555' }] },
      namespaces: [{ nsid: 1, backend: { memory: { sizeBytes: 1_073_741_824 } } }],
    },
  ],
};

/** With the defaults filled in and some fields changed. */
export function sampleSpec(changes: Partial<NvmeofTargetNodeSpecInput> = {}): NvmeofTargetNodeSpec {
  return nvmeofTargetNodeSpecSchema.parse({ ...sampleSpecInput, ...changes });
}
