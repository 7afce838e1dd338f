import type { EndToEnd } from '../fixture.ts';
import type { FlapTarget } from './flap-target.ts';
import { kernelFlapTarget } from './kernel-flap-target.ts';
import type { TargetName } from './report.ts';
import type { Scenario } from './scenario.ts';
import { weirFlapTarget } from './weir-flap-target.ts';

/** The target of that name as the scenario needs it. */
export function makeTarget(e2e: EndToEnd, name: TargetName, scenario: Scenario): FlapTarget {
  return name === 'nvmet'
    ? kernelFlapTarget(e2e.shell, e2e.path.address.address)
    : (scenario.weir ?? weirFlapTarget)(e2e);
}
