/** The verdict on whether a change is still on its way. */
import type { DataplanePod } from './cluster-objects.ts';
import type { Verdict } from './conditions.ts';
import type { NodeReport } from './roll-up.ts';
import type { RolloutStep } from './rollout.ts';

/** Reasons of a waiting container that waiting alone does not mend. */
const STUCK_REASONS = new Set([
  'ImagePullBackOff',
  'ErrImagePull',
  'ErrImageNeverPull',
  'InvalidImageName',
  'CrashLoopBackOff',
  'CreateContainerConfigError',
  'CreateContainerError',
  'RunContainerError',
]);

/** What progress is judged by. */
export interface ProgressInput {
  readonly reports: readonly NodeReport[];
  readonly pods: readonly DataplanePod[];
  readonly step: RolloutStep;
  /** Level that the namespace's pod security enforces, when it is below what the pods need. */
  readonly podSecurity: string | undefined;
  readonly namespace: string;
  /** Whether the pods are on the host network. */
  readonly isOnHostNetwork: boolean;
  /** Extended resource that the pods ask a device plugin for, if they do. */
  readonly deviceResource: string | undefined;
}

/** A pod that no node takes: most often because nothing offers the RDMA devices that it asks for. */
function unschedulablePod(
  pods: readonly DataplanePod[],
  deviceResource: string | undefined,
): Verdict | undefined {
  for (const pod of pods) {
    const scheduled = pod.status.conditions.find(({ type }) => type === 'PodScheduled');
    if (scheduled?.status !== 'False') continue;
    const isDeviceMissing = deviceResource !== undefined && scheduled.message.includes(deviceResource);
    const remedy = isDeviceMissing
      ? `; no device plugin offers ${deviceResource} there: install one, or set dataplane.deviceAccess of the chart`
      : '';
    const message = `pod ${pod.metadata.name}: ${scheduled.message}${remedy}`;
    return { status: 'False', reason: 'Unschedulable', message };
  }
  return undefined;
}

function stuckPod(pods: readonly DataplanePod[]): Verdict | undefined {
  for (const pod of pods) {
    for (const { state } of pod.status.containerStatuses) {
      const waiting = state.waiting;
      if (waiting === undefined || !STUCK_REASONS.has(waiting.reason)) continue;
      const message = `pod ${pod.metadata.name} on ${pod.spec.nodeName ?? 'no node'}: ${waiting.message || waiting.reason}`;
      return { status: 'False', reason: waiting.reason, message };
    }
  }
  return undefined;
}

/** Verdict of `Progressing`. */
export function judgeProgress(input: ProgressInput): Verdict {
  const { reports, pods, step, podSecurity, namespace, deviceResource } = input;
  const need = input.isOnHostNetwork ? "the host's network" : 'the capability IPC_LOCK';
  const missing = reports.filter((report) => !report.hasPod);
  if (missing.length > 0 && podSecurity !== undefined) {
    return {
      status: 'False',
      reason: 'PodSecurityForbids',
      message: `namespace ${namespace} enforces pod security level ${podSecurity}, the pods need ${need}: kubectl label namespace ${namespace} --overwrite pod-security.kubernetes.io/enforce=privileged`,
    };
  }
  const stuck = stuckPod(pods) ?? unschedulablePod(pods, deviceResource);
  if (stuck !== undefined) return stuck;
  if (step.kind !== 'complete') return { status: 'True', reason: 'RollingOut', message: step.message };
  if (missing.length > 0) {
    const message = `${reports.length - missing.length} of ${reports.length} pods exist`;
    return { status: 'True', reason: 'CreatingPods', message };
  }
  const behind = reports.filter(
    ({ generation, status }) => (status?.observedGeneration ?? 0) < (generation ?? 1),
  );
  if (behind.length > 0) {
    const message = `${reports.length - behind.length} of ${reports.length} nodes have taken up the latest change`;
    return { status: 'True', reason: 'Applying', message };
  }
  return { status: 'False', reason: 'Complete', message: 'every node has taken up the latest change' };
}
