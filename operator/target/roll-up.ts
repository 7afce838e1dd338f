/** One verdict from what many nodes report. */
import type { Condition } from '../../crds/condition.ts';
import type { NvmeofTargetNodeStatus } from '../../crds/nvmeof-target-node.ts';
import type { Silence } from '../../crds/silent-status.ts';
import { findCondition, UNKNOWN, type Verdict } from './conditions.ts';

/** A selected node as it reports. */
export interface NodeReport {
  readonly nodeName: string;
  /** metadata.generation of its NvmeofTargetNode; undefined when there is none yet. */
  readonly generation: number | undefined;
  readonly status: NvmeofTargetNodeStatus | undefined;
  readonly hasPod: boolean;
  readonly podReady: boolean;
  /** Why `status` says nothing about now; undefined while a running dataplane stands for it. */
  readonly silence: Silence | undefined;
}

/** Nodes named in a message; the rest is counted. */
const NODES_NAMED_MAX = 3;

/** Host connections of a node; none without a process. */
export function connectedHosts(report: NodeReport): number {
  return report.silence === undefined || report.silence.mayServe === true
    ? (report.status?.connectedHosts ?? 0)
    : 0;
}

/** Whether a node serves its target in full. */
export function isNodeReady(report: NodeReport): boolean {
  return (
    report.silence === undefined &&
    report.podReady &&
    findCondition(report.status?.conditions, 'Ready')?.status === 'True'
  );
}

function summary(reports: readonly { nodeName: string; condition: Condition }[]): string {
  const named = reports
    .slice(0, NODES_NAMED_MAX)
    .map(({ nodeName, condition }) => `${nodeName}: ${condition.message || condition.reason}`);
  const hidden = reports.length - named.length;
  return named.join('; ') + (hidden > 0 ? `; and ${hidden} more nodes` : '');
}

/**
 * The verdict on one aspect over all nodes. `bad` is the status that one node is enough for: `False` for aspects
 * that should be true everywhere, `True` for `Degraded`.
 */
export function rollUpCondition(
  reports: readonly NodeReport[],
  type: string,
  bad: 'True' | 'False',
): Verdict {
  const known = reports.flatMap((report) => {
    const condition =
      report.silence === undefined ? findCondition(report.status?.conditions, type) : undefined;
    return condition === undefined ? [] : [{ nodeName: report.nodeName, condition }];
  });
  const bads = known.filter(({ condition }) => condition.status === bad);
  const [firstBad] = bads;
  if (firstBad !== undefined) {
    return { status: bad, reason: firstBad.condition.reason, message: summary(bads) };
  }
  const [first] = known;
  const telling = new Set(
    known.filter(({ condition }) => condition.status !== 'Unknown').map(({ nodeName }) => nodeName),
  );
  if (first === undefined || telling.size < reports.length) {
    if (reports.length === 0) return { ...UNKNOWN, message: 'no node is selected' };
    const silent = reports.map(({ nodeName }) => nodeName).filter((name) => !telling.has(name));
    const hidden = silent.length - NODES_NAMED_MAX;
    const names = silent.slice(0, NODES_NAMED_MAX).join(', ') + (hidden > 0 ? ` and ${hidden} more` : '');
    const why = reports.find(({ nodeName }) => nodeName === silent[0])?.silence;
    return {
      ...UNKNOWN,
      ...(why === undefined ? {} : { reason: why.reason }),
      message: `nothing is known of ${names}: ${why?.message ?? 'it has not reported yet'}`,
    };
  }
  return {
    status: bad === 'True' ? 'False' : 'True',
    reason: first.condition.reason,
    message: reports.length === 1 ? first.condition.message : `on all ${reports.length} nodes`,
  };
}

/** Whether the target is served in full. */
export function rollUpReady(reports: readonly NodeReport[]): Verdict {
  if (reports.length === 0) {
    return {
      status: 'False',
      reason: 'NoNodes',
      message: 'no node is selected: label nodes to match nodeSelector, or add tolerations for their taints',
    };
  }
  const missing = reports.filter((report) => !isNodeReady(report));
  if (missing.length === 0) {
    const nodes = reports.length === 1 ? 'the node' : `all ${reports.length} nodes`;
    return { status: 'True', reason: 'Serving', message: `served on ${nodes}` };
  }
  const told = missing.flatMap((report) => {
    const condition =
      report.silence === undefined ? findCondition(report.status?.conditions, 'Ready') : undefined;
    if (condition !== undefined && condition.status !== 'True')
      return [{ nodeName: report.nodeName, condition }];
    const message = report.silence?.message ?? 'the pod is not ready';
    const reason = report.silence?.reason ?? 'PodNotReady';
    return [
      {
        nodeName: report.nodeName,
        condition: {
          type: 'Ready',
          status: 'False',
          reason,
          message,
          lastTransitionTime: '',
        } satisfies Condition,
      },
    ];
  });
  return { status: 'False', reason: told[0]?.condition.reason ?? 'NotReady', message: summary(told) };
}
