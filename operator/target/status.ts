/** The status of an NvmeofTarget. */
import type { NvmeofTargetStatus } from '../../crds/nvmeof-target.ts';
import { type ConditionType, updateConditions, type Verdict } from './conditions.ts';
import { connectedHosts, isNodeReady, type NodeReport, rollUpCondition, rollUpReady } from './roll-up.ts';

/** What a status is made from. */
export interface StatusInput {
  readonly previous: NvmeofTargetStatus | undefined;
  readonly generation: number;
  readonly nqn: string | undefined;
  readonly reports: readonly NodeReport[];
  /** Verdicts that do not come from the nodes. */
  readonly verdicts: Partial<Record<ConditionType, Verdict>>;
  readonly now: Date;
}

/** The status that should be stored. */
export function buildStatus(input: StatusInput): NvmeofTargetStatus {
  const { previous, generation, nqn, reports, verdicts, now } = input;
  const readyNodes = reports.filter(isNodeReady).length;
  const rolledUp: Partial<Record<ConditionType, Verdict>> = {
    ListenersReady: rollUpCondition(reports, 'ListenersReady', 'False'),
    LinksUp: rollUpCondition(reports, 'LinksUp', 'False'),
    DeviceHealthy: rollUpCondition(reports, 'DeviceHealthy', 'False'),
    Degraded: rollUpCondition(reports, 'Degraded', 'True'),
    Ready: rollUpReady(reports),
  };
  return {
    observedGeneration: generation,
    ...(nqn === undefined ? {} : { nqn }),
    desiredNodes: reports.length,
    readyNodes,
    nodes: `${readyNodes}/${reports.length}`,
    connectedHosts: reports.reduce((sum, report) => sum + connectedHosts(report), 0),
    conditions: updateConditions(previous?.conditions ?? [], { ...rolledUp, ...verdicts }, generation, now),
  };
}
