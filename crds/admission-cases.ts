/**
 * What the API takes and refuses, for tests: the same objects are judged by zod and by a real API server. Every rule
 * of the schemas has at least one object that it refuses.
 */

/** One object, given as what differs from the least that is accepted. */
export interface AdmissionCase {
  readonly name: string;
  /** Fields of the spec. */
  readonly change: object;
  /** Part of what the API server answers; absent when the object is accepted. */
  readonly refusedWith?: string;
}

/** An edit of an object that is there. */
export interface EditCase {
  readonly name: string;
  readonly before: object;
  readonly after: object;
  /** Part of what the API server answers; absent when the edit is accepted. */
  readonly refusedWith?: string;
}

const uuid = '6b1f7f0e-2a52-4f0f-8f2f-0e5b8f3c1a10';
const memory = { memory: { size: '1Gi' } };
const listener = { name: 'storage', addressFrom: { cidr: '10.9.0.0/24' } };
const at = (addressFrom: object, change: object = {}) => ({
  listeners: [{ ...listener, addressFrom, ...change }],
});
const namespace = (change: object) => ({ namespaces: [{ nsid: 1, backend: memory, ...change }] });
const claim = (change: object = {}, scope = 'Shared') => ({
  scope,
  ...namespace({ backend: { persistentVolumeClaim: { claimName: 'data', ...change } } }),
});
const file = (path: string) => namespace({ backend: { file: { path, size: '1Gi' } } });
const network = (change: object) => ({ network: change });
const secondary = { 'k8s.v1.cni.cncf.io/networks': 'storage-net' };
const dhchap = (change: object) => ({
  access: { hosts: [{ nqn: 'nqn.2026-11.a:b', dhchap: { secretRef: { name: 'host-a' }, ...change } }] },
});
const toleration = (change: object) => ({ tolerations: [change] });
const term = (change: object) => ({
  affinity: {
    nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [change] } },
  },
});
const expression = (change: object) => term({ matchExpressions: [{ key: 'pool', ...change }] });

const integers: readonly [string, (value: number) => object, number, number][] = [
  ['listeners[].port', (port) => ({ listeners: [{ ...listener, port }] }), 1, 65535],
  ['namespaces[].nsid', (nsid) => namespace({ nsid }), 1, 65535],
  ['namespaces[].anaGroup', (anaGroup) => namespace({ anaGroup }), 1, 128],
  ['queues.maxIOQueues', (maxIOQueues) => ({ queues: { maxIOQueues } }), 1, 128],
  ['queues.queueDepth', (queueDepth) => ({ queues: { queueDepth } }), 16, 1024],
  [
    'queues.inCapsuleDataSizeBytes',
    (inCapsuleDataSizeBytes) => ({ queues: { inCapsuleDataSizeBytes } }),
    0,
    16384,
  ],
  ['keepAlive.minimumSeconds', (minimumSeconds) => ({ keepAlive: { minimumSeconds } }), 1, 300],
  ['link.holdMilliseconds', (holdMilliseconds) => ({ link: { holdMilliseconds } }), 0, 10000],
  ['link.drainTimeoutSeconds', (drainTimeoutSeconds) => ({ link: { drainTimeoutSeconds } }), 1, 300],
  [
    'link.upStabilizationMilliseconds',
    (upStabilizationMilliseconds) => ({ link: { upStabilizationMilliseconds } }),
    0,
    60000,
  ],
  [
    'link.memoryRegistration.maxBackoffSeconds',
    (maxBackoffSeconds) => ({ link: { memoryRegistration: { maxBackoffSeconds } } }),
    1,
    300,
  ],
  ['polling.cores', (cores) => ({ polling: { cores } }), 1, 64],
];

/** Each bound of an integer: the value at it is taken, the one beyond it is not. */
const bounds = integers.flatMap(([field, change, least, most]): AdmissionCase[] => {
  const answer = `spec.${field.replace('[]', '[0]')}`;
  return [
    { name: `${field} of ${least}`, change: change(least) },
    { name: `${field} of ${most}`, change: change(most) },
    { name: `${field} below ${least}`, change: change(least - 1), refusedWith: answer },
    { name: `${field} above ${most}`, change: change(most + 1), refusedWith: answer },
  ];
});

const choices: readonly [string, (value: string) => object][] = [
  ['scope', (scope) => ({ scope })],
  ['listeners[0].addressFamily', (addressFamily) => ({ listeners: [{ ...listener, addressFamily }] })],
  ['access.policy', (policy) => ({ access: { policy } })],
  ['link.recreateSoftDevice', (recreateSoftDevice) => ({ link: { recreateSoftDevice } })],
  ['polling.mode', (mode) => ({ polling: { mode } })],
  ['deletionPolicy', (deletionPolicy) => ({ deletionPolicy })],
  ['network.mode', (mode) => network({ mode })],
];

/** Specs of an NvmeofTarget: what differs from one listener and two namespaces. */
export const TARGET_CASES: readonly AdmissionCase[] = [
  ...bounds,
  ...choices.map(([field, change]) => ({
    name: `${field} of an unknown kind`,
    change: change('Sometimes'),
    refusedWith: `spec.${field}`,
  })),

  { name: 'pods on their own network', change: network({ mode: 'Pod' }) },
  { name: 'a secondary interface', change: network({ mode: 'Pod', annotations: secondary }) },
  {
    name: 'a secondary interface on the host network',
    change: network({ annotations: secondary }),
    refusedWith: 'annotations are for pods on their own network: remove them, or set mode: Pod',
  },
  ...[
    'cdi.k8s.io/gpu',
    'container.apparmor.security.beta.kubernetes.io/dataplane',
    'weir.dev/template-hash',
    'plain',
  ].map((key) => ({
    name: `an annotation ${key} of the pods`,
    change: network({ mode: 'Pod', annotations: { [key]: 'value' } }),
    refusedWith:
      'annotations are for network plugins, like k8s.v1.cni.cncf.io/networks: each needs a prefix, and none of kubernetes.io, k8s.io and weir.dev',
  })),
  {
    name: 'too many annotations of the pods',
    change: network({
      mode: 'Pod',
      annotations: Object.fromEntries(
        Array.from({ length: 17 }, (_, index) => [`example.org/a${index}`, 'x']),
      ),
    }),
    refusedWith: 'spec.network.annotations',
  },

  { name: 'no namespaces', change: { namespaces: [] } },
  {
    name: 'as many namespaces as there may be',
    change: {
      namespaces: Array.from({ length: 1024 }, (_, index) => ({ nsid: index + 1, backend: memory })),
    },
  },
  {
    name: 'one namespace too many',
    change: {
      namespaces: Array.from({ length: 1025 }, (_, index) => ({ nsid: index + 1, backend: memory })),
    },
    refusedWith: 'spec.namespaces',
  },
  {
    name: 'as many listeners as there may be',
    change: {
      listeners: Array.from({ length: 16 }, (_, index) => ({
        ...listener,
        name: `l${index}`,
        port: 4420 + index,
      })),
    },
  },
  {
    name: 'one listener too many',
    change: {
      listeners: Array.from({ length: 17 }, (_, index) => ({
        ...listener,
        name: `l${index}`,
        port: 4420 + index,
      })),
    },
    refusedWith: 'spec.listeners',
  },
  { name: 'no listener', change: { listeners: [] }, refusedWith: 'spec.listeners' },
  { name: 'a listener by address', change: at({ address: '10.9.0.1' }) },
  { name: 'a listener by interface', change: at({ interface: 'rdma0' }) },
  { name: 'a listener by RDMA device', change: at({ rdmaDevice: 'mlx5_0' }) },
  { name: 'an IPv6 listener', change: at({ address: 'fd00::1' }, { addressFamily: 'IPv6' }) },
  { name: 'an IPv6 network', change: at({ cidr: 'fd00::/64' }, { addressFamily: 'IPv6' }) },
  {
    name: 'two address sources',
    change: at({ cidr: '10.9.0.0/24', interface: 'a' }),
    refusedWith: 'spec.listeners[0].addressFrom: Invalid value: set exactly one of address, interface',
  },
  {
    name: 'no address source',
    change: at({}),
    refusedWith: 'set exactly one of address, interface, rdmaDevice, cidr',
  },
  {
    name: 'a host name as address',
    change: at({ address: 'node-a' }),
    refusedWith: 'must be an IPv4 or IPv6 address, like 10.9.0.1',
  },
  {
    name: 'a network with a wrong prefix',
    change: at({ cidr: '10.9.0.0/64' }),
    refusedWith: 'must be a network in CIDR notation, like 10.9.0.0/24',
  },
  {
    name: 'an address of another family',
    change: at({ address: 'fd00::1' }),
    refusedWith:
      'address and addressFamily disagree: set addressFamily: IPv6 for an IPv6 address or network, IPv4 otherwise',
  },
  {
    name: 'a network of another family',
    change: at({ cidr: '10.9.0.0/24' }, { addressFamily: 'IPv6' }),
    refusedWith: 'address and addressFamily disagree',
  },
  {
    name: 'an interface with a slash',
    change: at({ interface: 'a/b' }),
    refusedWith: 'addressFrom.interface',
  },
  { name: 'a device with a space', change: at({ rdmaDevice: 'a b' }), refusedWith: 'addressFrom.rdmaDevice' },
  {
    name: 'a listener in upper case',
    change: { listeners: [{ ...listener, name: 'A' }] },
    refusedWith: 'spec.listeners[0].name',
  },
  {
    name: 'two listeners on one address and port',
    change: { listeners: [listener, { ...listener, name: 'b' }] },
    refusedWith: 'two listeners have the same address and port: give each its own port or address',
  },
  {
    name: 'two listeners of one name',
    change: { listeners: [listener, { ...listener, port: 1 }] },
    refusedWith: 'duplicate entries for key',
  },

  { name: 'a malformed NQN', change: { nqn: 'nqn.fast.example' }, refusedWith: 'spec.nqn' },
  {
    name: 'the discovery NQN',
    change: { nqn: 'nqn.2014-08.org.nvmexpress.discovery' },
    refusedWith: 'spec.nqn',
  },
  { name: 'an NQN of 223 characters', change: { nqn: `nqn.2026-11.dev.weir:${'x'.repeat(202)}` } },
  {
    name: 'an NQN of 224 characters',
    change: { nqn: `nqn.2026-11.dev.weir:${'x'.repeat(203)}` },
    refusedWith: 'spec.nqn',
  },

  { name: 'a block device', change: namespace({ backend: { blockDevice: { path: '/dev/disk/by-id/x' } } }) },
  {
    name: 'a file of 1536Mi',
    change: namespace({ backend: { file: { path: '/v/a.img', size: '1536Mi' } } }),
  },
  {
    // The API server's quantities with a fraction are no integers to it, even where the fraction comes to whole bytes.
    name: 'a size with a fraction',
    change: namespace({ backend: { file: { path: '/v/a.img', size: '1.5Gi' } } }),
    refusedWith: 'file.size',
  },
  {
    name: 'no backend',
    change: namespace({ backend: {} }),
    refusedWith: 'set exactly one of blockDevice, file, memory',
  },
  {
    name: 'two backends',
    change: namespace({ backend: { ...memory, blockDevice: { path: '/dev/sda' } } }),
    refusedWith: 'set exactly one of blockDevice, file, memory',
  },
  { name: 'a claim', change: claim() },
  { name: 'a file on a claim', change: claim({ file: { size: '10Gi' } }) },
  { name: 'a named file on a claim', change: claim({ file: { name: 'a.img', size: '10Gi' } }) },
  {
    name: 'a claim beside memory',
    change: namespace({ backend: { ...memory, persistentVolumeClaim: { claimName: 'data' } } }),
    refusedWith: 'set exactly one of blockDevice, file, memory, persistentVolumeClaim',
  },
  {
    name: 'a claim without a name',
    change: claim({ claimName: undefined }),
    refusedWith: 'persistentVolumeClaim.claimName',
  },
  {
    name: 'a claim that no claim can be named',
    change: claim({ claimName: 'Data' }),
    refusedWith: 'persistentVolumeClaim.claimName',
  },
  {
    name: 'a file on a claim without a size',
    change: claim({ file: { name: 'a.img' } }),
    refusedWith: 'persistentVolumeClaim.file.size',
  },
  {
    name: 'a file on a claim of no whole blocks',
    change: claim({ file: { size: '5000' } }),
    refusedWith: 'must be more than 0 and a multiple of 4Ki',
  },
  {
    name: 'a file on a claim in a directory',
    change: claim({ file: { name: 'a/b.img', size: '10Gi' } }),
    refusedWith: 'persistentVolumeClaim.file.name',
  },
  {
    name: 'a file on a claim that climbs',
    change: claim({ file: { name: '..', size: '10Gi' } }),
    refusedWith: 'persistentVolumeClaim.file.name',
  },
  {
    name: 'a claim with scope PerNode',
    change: claim({}, 'PerNode'),
    refusedWith:
      "with scope PerNode every node has data of its own, which one claim cannot be: use scope Shared, or a blockDevice or file of each node's own",
  },
  {
    name: 'a size of 0',
    change: namespace({ backend: { memory: { size: '0' } } }),
    refusedWith: 'must be more than 0 and a multiple of 4Ki, like 10Gi',
  },
  {
    name: 'a size that is no multiple of 4Ki',
    change: namespace({ backend: { memory: { size: '5000' } } }),
    refusedWith: 'must be more than 0 and a multiple of 4Ki',
  },
  {
    name: 'a size that is no quantity',
    change: namespace({ backend: { memory: { size: 'lots' } } }),
    refusedWith: 'memory.size',
  },
  { name: 'a path with two dots in a name', change: file('/var/lib/weir/a..b') },
  { name: 'a path that climbs', change: file('/a/../b'), refusedWith: 'file.path' },
  { name: 'a relative path', change: file('a.img'), refusedWith: 'file.path' },
  {
    name: 'a block device outside /dev',
    change: namespace({ backend: { blockDevice: { path: '/etc/passwd' } } }),
    refusedWith: 'blockDevice.path',
  },
  {
    name: 'two namespaces of one id',
    change: {
      namespaces: [
        { nsid: 1, backend: memory },
        { nsid: 1, backend: memory },
      ],
    },
    refusedWith: 'duplicate entries for key',
  },
  { name: 'a UUID', change: namespace({ uuid }) },
  { name: 'a UUID in upper case', change: namespace({ uuid: uuid.toUpperCase() }), refusedWith: 'uuid' },
  {
    name: 'UUIDs with scope PerNode',
    change: { scope: 'PerNode', ...namespace({ uuid }) },
    refusedWith: 'with scope PerNode every node has other data, so UUIDs are derived: remove uuid',
  },
  { name: 'derived UUIDs with scope PerNode', change: { scope: 'PerNode' } },

  { name: 'any host', change: { access: { policy: 'AnyHost' } } },
  {
    name: 'a host on the list',
    change: { access: { hosts: [{ nqn: `nqn.2014-08.org.nvmexpress:uuid:${uuid}` }] } },
  },
  {
    name: 'a host that has to authenticate',
    change: dhchap({}),
  },
  {
    name: 'authentication in every detail',
    change: dhchap({ hash: 'SHA512', dhGroup: 'FFDHE8192', bidirectional: true }),
  },
  { name: 'no Diffie-Hellman group', change: dhchap({ dhGroup: 'None' }) },
  { name: 'an unknown hash', change: dhchap({ hash: 'MD5' }), refusedWith: 'hash' },
  { name: 'an unknown group', change: dhchap({ dhGroup: 'MODP2048' }), refusedWith: 'dhGroup' },
  {
    name: 'a Secret by a path',
    change: dhchap({ secretRef: { name: '../host-a' } }),
    refusedWith: 'secretRef.name',
  },
  {
    name: 'hosts beside AnyHost',
    change: { access: { policy: 'AnyHost', hosts: [{ nqn: 'nqn.2026-11.a:b' }] } },
    refusedWith:
      'with policy AnyHost the list of hosts has no effect: remove hosts, or set policy: AllowList',
  },
  {
    name: 'a host twice',
    change: { access: { hosts: [{ nqn: 'nqn.2026-11.a:b' }, { nqn: 'nqn.2026-11.a:b' }] } },
    refusedWith: 'duplicate entries for key',
  },
  {
    name: 'more hosts than there may be',
    change: {
      access: { hosts: Array.from({ length: 257 }, (_, index) => ({ nqn: `nqn.2026-11.a:b${index}` })) },
    },
    refusedWith: 'spec.access.hosts',
  },

  { name: 'the smallest I/O size', change: { queues: { maxIOSizeBytes: 4096 } } },
  { name: 'the largest I/O size', change: { queues: { maxIOSizeBytes: 1048576 } } },
  {
    name: 'an I/O size that is no power of two',
    change: { queues: { maxIOSizeBytes: 5000 } },
    refusedWith: 'must be a power of two from 4096 to 1048576',
  },
  {
    name: 'an in-capsule size that is no multiple of 16',
    change: { queues: { inCapsuleDataSizeBytes: 100 } },
    refusedWith: 'spec.queues.inCapsuleDataSizeBytes',
  },

  { name: 'labels of nodes', change: { nodeSelector: { 'example.com/pool': 'rdma', empty: '' } } },
  {
    name: 'a label value with a space',
    change: { nodeSelector: { pool: 'a b' } },
    refusedWith: 'nodeSelector',
  },
  {
    name: 'more labels than there may be',
    change: { nodeSelector: Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`l${index}`, ''])) },
    refusedWith: 'spec.nodeSelector',
  },
  { name: 'an expression with values', change: expression({ operator: 'In', values: ['rdma'] }) },
  { name: 'an expression with an integer', change: expression({ operator: 'Gt', values: ['7'] }) },
  { name: 'an expression without values', change: expression({ operator: 'Exists' }) },
  ...[
    { operator: 'In' },
    { operator: 'Exists', values: ['a'] },
    { operator: 'Lt', values: ['a'] },
    { operator: 'Gt', values: ['1', '2'] },
  ].map((change) => ({
    name: `an expression ${change.operator} of ${change.values?.join() ?? 'nothing'}`,
    change: expression(change),
    refusedWith: 'In and NotIn need values, Gt and Lt one integer, Exists and DoesNotExist none',
  })),
  {
    name: 'a node by name',
    change: term({ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['node-a'] }] }),
  },
  {
    name: 'another field of a node',
    change: term({ matchFields: [{ key: 'spec.podCIDR', operator: 'In', values: ['a'] }] }),
    refusedWith: 'the one field is metadata.name, with operator In or NotIn and one value',
  },
  { name: 'a toleration of everything', change: toleration({ operator: 'Exists' }) },
  { name: 'a toleration of one value', change: toleration({ key: 'pool', value: 'rdma' }) },
  {
    name: 'a toleration that exists with a value',
    change: toleration({ key: 'pool', operator: 'Exists', value: 'rdma' }),
    refusedWith: 'operator Exists takes no value: remove value, or set operator: Equal',
  },
  {
    name: 'a toleration of every key that is equal to something',
    change: toleration({ value: 'rdma' }),
    refusedWith: 'a toleration of every taint key needs operator: Exists',
  },
  {
    name: 'a toleration for a time, of an effect that evicts nobody',
    change: toleration({ key: 'pool', operator: 'Exists', effect: 'NoSchedule', tolerationSeconds: 5 }),
    refusedWith: 'tolerationSeconds needs effect: NoExecute',
  },
  {
    name: 'resources',
    change: { resources: { requests: { cpu: '500m' }, limits: { cpu: '2', memory: '2Gi' } } },
  },
  {
    name: 'a resource that is no quantity',
    change: { resources: { limits: { cpu: 'much' } } },
    refusedWith: 'must be a Kubernetes quantity, like 500m or 2Gi',
  },
  {
    name: 'a request above its limit',
    change: { resources: { requests: { memory: '2Gi' }, limits: { memory: '1500M' } } },
    refusedWith: 'a request must not be more than its limit',
  },
  {
    name: 'a priority class that is no name',
    change: { priorityClassName: 'High Priority' },
    refusedWith: 'spec.priorityClassName',
  },
];

/** Edits of an NvmeofTarget. */
export const TARGET_EDITS: readonly EditCase[] = [
  {
    name: 'another NQN',
    before: { nqn: 'nqn.2026-11.a:b' },
    after: { nqn: 'nqn.2026-11.a:c' },
    refusedWith: 'nqn is immutable: make a new NvmeofTarget for another NQN',
  },
  {
    name: 'an NQN where there was none',
    before: { nqn: undefined },
    after: { nqn: 'nqn.2026-11.a:c' },
    refusedWith: 'nqn is immutable',
  },
  {
    name: 'no NQN where there was one',
    before: { nqn: 'nqn.2026-11.a:b' },
    after: { nqn: undefined },
    refusedWith: 'nqn is immutable',
  },
  {
    name: 'another scope',
    before: { scope: 'PerNode' },
    after: { scope: 'Shared' },
    refusedWith: 'scope is immutable: make a new NvmeofTarget',
  },
  {
    name: 'another UUID',
    before: namespace({ uuid }),
    after: namespace({ uuid: uuid.replace('6', '7') }),
    refusedWith:
      'uuid is immutable: hosts fail the I/O of a namespace whose UUID changed; remove it and add another nsid',
  },
  {
    name: 'another namespace, listener, access and tuning',
    before: {},
    after: {
      ...namespace({ nsid: 7 }),
      ...at({ interface: 'rdma0' }),
      access: { policy: 'AnyHost' },
      link: { holdMilliseconds: 0 },
      paused: true,
    },
  },
];

/** The rule on the name of an NvmeofTarget. */
export const TARGET_NAME_RULE =
  'the name is a label of every child object: at most 63 characters and no dots';

const nodeNamespace = (backend: object) => ({
  subsystems: [{ nqn: 'nqn.2026-11.dev.weir:fast', namespaces: [{ nsid: 1, backend }] }],
});
const subsystem = (change: object) => ({ subsystems: [{ nqn: 'nqn.2026-11.dev.weir:fast', ...change }] });
const mebibyte = 1048576;

/** The least that an NvmeofTargetNode needs. */
export const NODE_BASE = {
  nodeName: 'node-a',
  target: 'default/fast',
  listeners: [listener],
  subsystems: [{ nqn: 'nqn.2026-11.dev.weir:fast' }],
};

/** Specs of an NvmeofTargetNode. */
export const NODE_CASES: readonly AdmissionCase[] = [
  { name: 'the least', change: {} },
  { name: 'memory', change: nodeNamespace({ memory: { sizeBytes: mebibyte } }) },
  {
    name: 'a device of a claim',
    change: nodeNamespace({ blockDevice: { path: '/dev/weir/data', expectedSizeBytes: 1 } }),
  },
  {
    name: 'a device expected to have nothing',
    change: nodeNamespace({ blockDevice: { path: '/dev/weir/data', expectedSizeBytes: 0 } }),
    refusedWith: 'blockDevice.expectedSizeBytes',
  },
  { name: 'no storage at all', change: nodeNamespace({ null: { sizeBytes: mebibyte } }) },
  ...TARGET_CASES.filter(
    ({ change }) => 'listeners' in change || 'access' in change || 'queues' in change,
  ).map(({ name, change, refusedWith }): AdmissionCase => {
    // Hosts are a subsystem's here.
    const moved = 'access' in change ? subsystem({ access: change.access }) : change;
    const answer = refusedWith?.replace('spec.access', 'spec.subsystems[0].access');
    return { name, change: moved, ...(answer === undefined ? {} : { refusedWith: answer }) };
  }),
  {
    name: 'no backend',
    change: nodeNamespace({}),
    refusedWith: 'set exactly one of blockDevice, file, memory, null',
  },
  {
    name: 'a size that is no multiple of 4096',
    change: nodeNamespace({ memory: { sizeBytes: 5000 } }),
    refusedWith: 'memory.sizeBytes',
  },
  {
    name: 'controller ids in the wrong order',
    change: subsystem({ controllerIDs: { first: 9, last: 3 } }),
    refusedWith: 'first must not be greater than last',
  },
  {
    name: 'a serial number beyond 20 characters',
    change: subsystem({ serial: 'x'.repeat(21) }),
    refusedWith: 'serial',
  },
  { name: 'no subsystem', change: { subsystems: [] }, refusedWith: 'spec.subsystems' },
];

/** Edits of an NvmeofTargetNode. */
export const NODE_EDITS: readonly EditCase[] = [
  {
    name: 'another node',
    before: {},
    after: { nodeName: 'node-b' },
    refusedWith: 'nodeName is immutable: it decides which dataplane may report here',
  },
  {
    name: 'another target',
    before: {},
    after: { target: 'default/slow' },
    refusedWith: 'target is immutable: an NvmeofTargetNode belongs to one NvmeofTarget for good',
  },
  { name: 'another port', before: {}, after: { listeners: [{ ...listener, port: 4421 }] } },
];
