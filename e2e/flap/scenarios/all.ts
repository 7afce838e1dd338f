/** Every scenario, in the order in which `--scenario all` runs them. */
import type { Scenario } from '../scenario.ts';
import { address } from './address.ts';
import { carrier, link } from './link.ts';
import { short } from './short.ts';

export const scenarios: readonly Scenario[] = [link, carrier, short, address];
