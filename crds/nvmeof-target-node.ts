/**
 * NvmeofTargetNode: the resolved desired state of one node, written by the operator, and what its dataplane reports.
 * The spec is also the whole of a standalone configuration file, and exactly what the native core takes.
 */
import { z } from 'zod';
import { accessSchema } from './access.ts';
import { conditionsSchema, timestampSchema } from './condition.ts';
import { dnsLabelSchema, listenersSchema } from './listener.ts';
import {
  absolutePathSchema,
  anaGroupSchema,
  blockDeviceSchema,
  CAPACITY_UNIT_BYTES,
  NAMESPACES_MAX,
  nsidSchema,
  readOnlySchema,
} from './namespace.ts';
import { nqnSchema } from './qualified-name.ts';
import { exactlyOneOf, mapList, withRule, withTransitionRule } from './rule.ts';
import { keepAliveSchema, linkSchema, pollingSchema, queuesSchema } from './tuning.ts';
import { uuidSchema } from './uuid.ts';

const SUBSYSTEMS_MAX = 16;

/** 4 PiB: beyond any device, and exact in every number type on the way. */
const CAPACITY_BYTES_MAX = 2 ** 52;

/** NVM Express Base 2.0, figure 275: controller ids above FFEFh are reserved. */
const CONTROLLER_ID_MAX = 0xffef;

/** Connected hosts that a status names; `connectedHosts` counts them all. */
const STATUS_HOSTS_MAX = 64;

const sizeBytesSchema = z
  .int()
  .min(CAPACITY_UNIT_BYTES)
  .max(CAPACITY_BYTES_MAX)
  .multipleOf(CAPACITY_UNIT_BYTES, { error: `must be a multiple of ${CAPACITY_UNIT_BYTES}` })
  .describe('Capacity in bytes, a multiple of 4096.');

const nodeBlockDeviceSchema = blockDeviceSchema
  .extend({
    expectedSizeBytes: z
      .int()
      .min(1)
      .max(CAPACITY_BYTES_MAX)
      .optional()
      .describe(
        "Capacity in bytes that its PersistentVolumeClaim has. A change makes the dataplane read the device's own size anew, which is what hosts see.",
      ),
  })
  .describe('A block device of the node, or one that its pod has from a PersistentVolumeClaim.');

const backendSchema = exactlyOneOf(
  z.strictObject({
    blockDevice: nodeBlockDeviceSchema.optional(),
    file: z
      .strictObject({
        path: absolutePathSchema('Path of the file. Created sparse if absent; never truncated.'),
        sizeBytes: sizeBytesSchema,
      })
      .describe('A file.')
      .optional(),
    memory: z
      .strictObject({ sizeBytes: sizeBytesSchema })
      .describe('Memory of the process. Volatile.')
      .optional(),
    null: z
      .strictObject({ sizeBytes: sizeBytesSchema })
      .describe('Reads zeros, forgets writes. For benchmarks. In YAML the key is quoted: "null".')
      .optional(),
  }),
  ['blockDevice', 'file', 'memory', 'null'],
).describe('Where the data lives. Exactly one.');

const namespaceSchema = z
  .strictObject({
    nsid: nsidSchema,
    uuid: uuidSchema('UUID of the namespace. Derived from NQN and nsid when absent.').optional(),
    readOnly: readOnlySchema,
    anaGroup: anaGroupSchema,
    backend: backendSchema,
  })
  .describe('A namespace.');

const asciiText = (lengthMax: number, description: string) =>
  z
    .string()
    .min(1)
    .max(lengthMax)
    .regex(/^[ -~]+$/, { error: 'must be printable ASCII' })
    .describe(description);

const controllerIDsSchema = withRule(
  z.strictObject({
    first: z.int().min(1).max(CONTROLLER_ID_MAX).describe('First id.'),
    last: z.int().min(1).max(CONTROLLER_ID_MAX).describe('Last id.'),
  }),
  { rule: 'self.first <= self.last', message: 'first must not be greater than last' },
  (range) => range.first <= range.last,
).describe('Controller ids that this node may give out; disjoint between the nodes of a shared subsystem.');

const subsystemSchema = z
  .strictObject({
    nqn: nqnSchema('NQN of the subsystem.'),
    serial: asciiText(20, 'Serial number. Derived from the NQN when absent.').optional(),
    modelNumber: asciiText(40, 'Model number that hosts show.').default('Weir'),
    access: accessSchema.prefault({}),
    controllerIDs: controllerIDsSchema.optional(),
    namespaces: mapList(namespaceSchema, ['nsid'], { maxItems: NAMESPACES_MAX })
      .describe('Namespaces of the subsystem.')
      .default([]),
  })
  .describe('An NVM subsystem.');

const buffersSchema = z
  .strictObject({
    smallCount: z.int().min(16).max(65536).default(512).describe('Data buffers of 16 KiB.'),
    largeCount: z.int().min(4).max(8192).default(64).describe('Data buffers of queues.maxIOSizeBytes.'),
    receiveCount: z.int().min(64).max(32768).default(1024).describe('Receive buffers (command capsules).'),
  })
  .prefault({})
  .describe('Memory registered with the RDMA device, for each listener and poller.');

const pathsSchema = z
  .strictObject({
    state: z
      .enum(['Accessible', 'Inaccessible'])
      .describe(
        'Inaccessible: every namespace reports ANA state inaccessible, so that hosts use their other paths, or wait.',
      ),
    ofPod: z
      .string()
      .min(1)
      .max(253)
      .optional()
      .describe('Holds for the dataplane in this pod only: the pod that follows it serves. Any when absent.'),
  })
  .describe('Whether hosts may use the paths through this node. They may when absent.');

const specObject = z.strictObject({
  nodeName: z.string().min(1).max(253).describe('Node that serves this.'),
  target: z
    .string()
    .min(1)
    .max(317)
    .describe('The NvmeofTarget as <namespace>/<name>: the label "target" of metrics and logs.'),
  paused: z.boolean().default(false).describe('Keep serving what is served; changes wait.'),
  listeners: listenersSchema,
  subsystems: mapList(subsystemSchema, ['nqn'], { minItems: 1, maxItems: SUBSYSTEMS_MAX }).describe(
    'Subsystems that the node serves.',
  ),
  queues: queuesSchema,
  keepAlive: keepAliveSchema,
  link: linkSchema,
  polling: pollingSchema,
  buffers: buffersSchema,
  // Revision 2. Newer fields have no default: the API server would write it into every object, also into those of
  // dataplanes that do not know the field.
  paths: pathsSchema.optional(),
});

const withNodeFixed = withTransitionRule(specObject, {
  rule: 'self.nodeName == oldSelf.nodeName',
  message: 'nodeName is immutable: it decides which dataplane may report here',
  fieldPath: '.nodeName',
});

/** Desired state of one node. */
export const nvmeofTargetNodeSpecSchema = withTransitionRule(withNodeFixed, {
  rule: 'self.target == oldSelf.target',
  message: 'target is immutable: an NvmeofTargetNode belongs to one NvmeofTarget for good',
  fieldPath: '.target',
}).describe('Desired state of the node, complete: what the native core takes.');

/** Desired state of one node, defaults filled in. */
export type NvmeofTargetNodeSpec = z.output<typeof nvmeofTargetNodeSpecSchema>;

/** Desired state of one node as it may be written: defaults may be left out. */
export type NvmeofTargetNodeSpecInput = z.input<typeof nvmeofTargetNodeSpecSchema>;

const counter = (description: string) => z.int().min(0).default(0).describe(description);

/**
 * Counts the releases of the spec that have a new field. A dataplane reports the one that it knows as
 * `status.specRevision`, and one that reports none knows the first: the operator leaves out what is newer. A dataplane
 * refuses a spec with a field that it does not know, and serves on as it was.
 */
export const SPEC_REVISION = 3;

/** Fields that came after the first revision, by their paths, and with which they came. */
export const SPEC_FIELD_REVISIONS = {
  paths: 2,
  'subsystems[].namespaces[].backend.blockDevice.expectedSizeBytes': 2,
  'subsystems[].access.hosts[].dhchap': 3,
} as const satisfies Record<string, number>;

/** Where the paths through a node stand. */
export const PATH_STATES = ['Accessible', 'Leaving', 'Inaccessible'] as const;

/** Phases of a port; see docs/explanation/link-lifecycle.md. */
export const PORT_PHASES = [
  'Down',
  'Arming',
  'Serving',
  'Degraded',
  'Holding',
  'Draining',
  'Quarantined',
  'Failed',
] as const;

/** Outages that are remembered of a listener: Events are gone after an hour, and the night is longer. */
const OUTAGES_MAX = 16;

const outageStatusSchema = z.object({
  startTime: timestampSchema.describe('When the link went down, or what else began it.'),
  endTime: timestampSchema.optional().describe('When the port served again; absent while it does not.'),
  reason: z.string().max(256).describe('What began it.'),
  message: z.string().max(1024).optional().describe('What began it, for people.'),
});

const listenerStatusSchema = z.object({
  name: dnsLabelSchema.describe('Name of the listener.'),
  address: z.string().max(45).optional().describe('Address that is served, once known.'),
  port: z.int().min(1).max(65535).optional().describe('Port that is served.'),
  device: z.string().max(63).optional().describe('RDMA device.'),
  netdev: z.string().max(15).optional().describe('Network interface of the device.'),
  linkUp: z.boolean().optional().describe('Whether the link is up.'),
  phase: z
    .enum([...PORT_PHASES, 'Unknown'])
    .describe('Phase of the port; Unknown while no dataplane reports.'),
  epoch: counter('Counts the times the port began to serve; memory regions and queue pairs belong to one.'),
  lastTransitionTime: timestampSchema.optional().describe('When the phase last changed.'),
  reason: z.string().max(256).optional().describe('Why the port is in this phase.'),
  message: z.string().max(1024).optional().describe('Why, and what to do about it.'),
  queuePairs: z
    .object({
      active: counter('In use.'),
      draining: counter('Waiting for their last completions.'),
      quarantined: counter('Held by work that would not finish.'),
    })
    .optional()
    .describe('Queue pairs by state.'),
  memoryRegions: counter('Memory regions registered with the device.'),
  linkTransitions: z
    .object({ up: counter('Times the link came up.'), down: counter('Times the link went down.') })
    .optional()
    .describe('Link flaps since the dataplane started.'),
  drains: z
    .object({
      completed: counter('Drains that finished in time.'),
      timedOut: counter('Drains that hit link.drainTimeoutSeconds.'),
    })
    .optional()
    .describe('Drains since the dataplane started.'),
  outages: z
    .array(outageStatusSchema)
    .max(OUTAGES_MAX)
    .meta({ 'x-kubernetes-list-type': 'atomic' })
    .optional()
    .describe(
      `The last ${OUTAGES_MAX} times in which no host could be served, newest first; a flap that link.holdMilliseconds rode through is none.`,
    ),
});

const namespaceStatusSchema = z.object({
  subsystem: z.string().min(1).max(223).describe('NQN of the subsystem.'),
  nsid: nsidSchema,
  uuid: z.string().max(36).optional().describe('UUID that hosts see.'),
  state: z
    .enum(['Ready', 'Failed', 'Removing', 'Pending', 'Unknown'])
    .describe('State of the namespace; Unknown while no dataplane reports.'),
  reason: z.string().max(256).optional().describe('Why it is in this state.'),
  message: z.string().max(1024).optional().describe('Why, and what to do about it.'),
  sizeBytes: z.int().min(0).optional().describe('Capacity in bytes.'),
  volatile: z.boolean().optional().describe('The data is gone when the pod restarts.'),
});

const hostStatusSchema = z.object({
  subsystem: z.string().min(1).max(223).describe('NQN of the subsystem.'),
  hostNQN: z.string().max(223).describe('NQN of the host.'),
  controllerID: z.int().min(0).max(65535).describe('Controller id of the connection.'),
  listener: z.string().max(63).optional().describe('Listener that the host is connected to.'),
  source: z.string().max(64).optional().describe('Address of the host.'),
  queues: counter('Queues, the admin queue included.'),
  connectedSince: timestampSchema.optional().describe('When the host connected.'),
});

/** Observed state of one node, written by its dataplane. */
export const nvmeofTargetNodeStatusSchema = z
  .object({
    observedGeneration: z.int().min(0).optional().describe('metadata.generation of the spec that is served.'),
    conditions: conditionsSchema.optional(),
    listeners: mapList(listenerStatusSchema, ['name'], { maxItems: 16 }).optional().describe('Listeners.'),
    namespaces: mapList(namespaceStatusSchema, ['subsystem', 'nsid'], { maxItems: NAMESPACES_MAX })
      .optional()
      .describe('Namespaces.'),
    connectedHosts: z.int().min(0).optional().describe('Host connections (controllers), all of them.'),
    hosts: mapList(hostStatusSchema, ['subsystem', 'controllerID'], { maxItems: STATUS_HOSTS_MAX })
      .optional()
      .describe(`Host connections, the first ${STATUS_HOSTS_MAX}.`),
    paths: z
      .enum(PATH_STATES)
      .optional()
      .describe(
        'Whether hosts may use the paths through this node. Leaving: some host has not read yet that they may not, or its I/O is in flight.',
      ),
    version: z.string().max(64).optional().describe('Version of the dataplane.'),
    specRevision: z
      .int()
      .min(1)
      .optional()
      .describe('Newest revision of the spec that the dataplane knows; the first when absent.'),
    startTime: timestampSchema
      .optional()
      .describe('When the process that reports this was started; absent while none reports.'),
  })
  .describe(
    'Observed state, written by the dataplane; by the operator in its place while no dataplane reports.',
  );

/** Observed state of one node. */
export type NvmeofTargetNodeStatus = z.output<typeof nvmeofTargetNodeStatusSchema>;

/** Root of an NvmeofTargetNode. */
export const nvmeofTargetNodeSchema = z
  .object({ spec: nvmeofTargetNodeSpecSchema, status: nvmeofTargetNodeStatusSchema.optional() })
  .describe(
    'NvmeofTargetNode is what one node serves of an NvmeofTarget. Written by the operator and the dataplane; read it, do not edit it.',
  );
