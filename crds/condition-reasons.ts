/** What the conditions of an NvmeofTarget say, and the reasons that scripts and alerts may match. */

/** Condition types of an NvmeofTargetNode, in the order in which they are shown, and what `True` means. */
export const NODE_CONDITIONS = {
  Accepted:
    'The desired state is served as far as can be. While it is False, the last good state goes on being served.',
  ListenersReady: 'Every listener serves: phase Serving or Degraded.',
  LinksUp: 'The link behind every listener is up.',
  DeviceHealthy: 'No RDMA device reports an error, and none is missing.',
  NamespacesReady: 'Every namespace is open.',
  Degraded: 'At least one listener serves with less memory than it should. It heals by itself.',
  Ready: 'Every listener and every namespace serves.',
} as const;

/** Condition types of an NvmeofTarget, in the order in which they are shown, and what `True` means. */
export const TARGET_CONDITIONS = {
  Accepted:
    'The specification can be served. While it is False, the last accepted state goes on being served.',
  Progressing: 'A change is on its way: pods, node objects, a rollout, a deletion.',
  ListenersReady: 'Every listener of every node serves.',
  LinksUp: 'The link behind every listener is up.',
  DeviceHealthy: 'No RDMA device of any node reports an error, and none is missing.',
  Degraded: 'At least one listener serves with less memory than it should. It heals by itself.',
  Ready: 'Every selected node serves the target in full.',
} as const;

/** Reasons of `Accepted=False`. */
export const REFUSAL_REASONS = {
  InvalidSpec:
    'A field is wrong in a way that admission could not tell; the message names it, or is what the API server says of the pods.',
  NQNTooLong: 'With scope PerNode the NQN and the name of a node exceed 223 characters together.',
  NQNInUse: 'An older NvmeofTarget has the NQN.',
  ListenerConflict:
    'An older NvmeofTarget has the address and port on a node that both run on, or two listeners of the target overlap.',
  BackendConflict:
    'An older NvmeofTarget writes to the PersistentVolumeClaim, or to the file or block device on a node that both run on, or two namespaces of the target do.',
  PathNotAllowed: "A file or block device lies outside the directories of the chart's values.",
  DataNotShared:
    'Scope Shared, several nodes, and a file or memory backend, or a file on a claim that hosts write to: the nodes would show different data.',
  ClaimNotFound: "There is no such PersistentVolumeClaim in the target's namespace.",
  ClaimNotBound:
    'A PersistentVolumeClaim has no volume yet and a pod that serves would make way for one that waits, or it has lost its volume, or is being deleted.',
  ClaimVolumeMode: 'volumeMode Filesystem without file.size, or volumeMode Block with it.',
  ClaimAccessMode:
    'The accessModes of a PersistentVolumeClaim do not allow it: several nodes without ReadWriteMany (ReadOnlyMany for readOnly), or writing where reading is all there is.',
  ClaimTooSmall: 'The files on a PersistentVolumeClaim need more than its capacity.',
  ClaimOnOtherNode:
    'A node is selected on which the volume of a PersistentVolumeClaim is not to be had (nodeAffinity of the PersistentVolume).',
  TooManyNodes: 'Scope Shared spans at most 128 nodes.',
  MemoryLimitTooLow: "The pod's memory limit is below what its memory backends and buffers need.",
  NoFreePort: 'Every port of the range for metrics is taken on a node of the target.',
} as const;

/** Reasons of `Progressing`. A waiting container's own reasons, like ImagePullBackOff, appear as well. */
export const PROGRESS_REASONS = {
  Complete: 'Every node has taken up the latest change.',
  CreatingPods: 'A selected node has no pod yet.',
  Applying: 'A node has not taken up the latest change yet.',
  RollingOut: 'Pods are replaced, one node at a time.',
  Paused: 'spec.paused: nothing is changed.',
  NotAccepted: 'See the condition Accepted.',
  PodSecurityForbids:
    "The namespace's pod security level keeps the pods out; the message has the label to set.",
  Unschedulable: 'No node takes a pod; most often nothing offers the RDMA devices that it asks for.',
  DeletionBlocked: 'deletionPolicy Protect: hosts are connected; the message names them.',
  Draining: 'The target is being deleted; its pods drain.',
} as const;

/** Reasons of `LinksUp`. */
export const LINK_REASONS = {
  LinksUp: 'Every link is up.',
  LinkDown: 'The interface is down, or has no carrier.',
  AddressNotFound: 'No interface of the node has the address that the listener asks for.',
  AddressChanged: 'The address moved, or was removed; the port follows it.',
  InterfaceNotFound: 'The node has no such network interface.',
  Starting: 'Unknown: the dataplane has not looked yet.',
} as const;

/** Reasons of `DeviceHealthy`. What else the message of a `Failed` port tells appears as well. */
export const DEVICE_REASONS = {
  Healthy: 'No device reports an error.',
  DeviceFatal: 'The device reported a fatal error. Its ports are tried again at long intervals.',
  DeviceRemoved:
    'The device was removed. The dataplane leaves with exit code 75 and takes it again when it is back.',
  DeviceNotFound: 'The node has no RDMA device of that name, or none serves the address.',
  NoRdmaDevice: 'No RDMA device is on the interface that has the address.',
  RdmaUnavailable: 'The node has no RDMA subsystem that the pod can use.',
  ManagementQueuePairDead:
    'The management queue pair (QP1) of the device is dead: it listens, and no host can connect. The message has the cure.',
} as const;

/** Reasons of `Degraded`. */
export const DEGRADED_REASONS = {
  FullService: 'False: nothing serves with less than it should.',
  MemoryPartlyRegistered: 'Part of the memory could not be registered with the device; it keeps trying.',
} as const;

/**
 * Reasons of every condition of an NvmeofTargetNode while no dataplane reports, as the operator writes them: all are
 * `Unknown` then.
 */
export const SILENCE_REASONS = {
  NoPod: 'No pod runs on the node.',
  NodeUnreachable: 'The node does not report to the cluster. Hosts may still be served there.',
  DataplaneNotRunning:
    'The process has ended, or was never started; the message has the exit code, or what its container waits for.',
  DataplaneStarting: 'The process was started, and has not reported yet.',
} as const;

/** Reasons of every condition of an NvmeofTargetNode that its dataplane writes as its last word: all are `Unknown` then. */
export const FAREWELL_REASONS = {
  Stopped: 'The dataplane was asked to stop (SIGTERM), drained and left.',
  DeviceRemoved:
    'An RDMA device was removed: the dataplane left with exit code 75. `DeviceHealthy` stays False.',
  RecreatingDevice:
    'The management queue pair of a soft RDMA device is dead: the dataplane left with exit code 76, the next one makes the device anew. `DeviceHealthy` stays False.',
  Fatal: 'The dataplane left for another reason; the message has it, with the exit code.',
} as const;
