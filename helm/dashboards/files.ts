/** The dashboards as the chart's files. */
import { type Dashboard, grafanaModel } from './dashboard.ts';
import { operatorDashboard } from './operator.ts';
import { targetsDashboard } from './targets.ts';

/** Every dashboard. */
export const DASHBOARDS: readonly Dashboard[] = [targetsDashboard, operatorDashboard];

/** Paths of the files in the repository, and their content. */
export function dashboardFiles(): [string, string][] {
  return DASHBOARDS.map((dashboard) => [
    `helm/weir/files/dashboards/${dashboard.uid}.json`,
    `${JSON.stringify(grafanaModel(dashboard), null, 1)}\n`,
  ]);
}
