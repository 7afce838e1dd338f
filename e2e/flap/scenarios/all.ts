/** Every scenario, in the order in which `--scenario all` runs them. */
import type { Scenario } from '../scenario.ts';
import { address } from './address.ts';
import { addressChange } from './address-change.ts';
import { backendHang } from './backend-hang.ts';
import { burst } from './burst.ts';
import { device } from './device.ts';
import { hostGone } from './host-gone.ts';
import { carrier, link } from './link.ts';
import { management } from './management.ts';
import { memory } from './memory.ts';
import { mtu } from './mtu.ts';
import { kill, terminate } from './process-ends.ts';
import { short } from './short.ts';
import { silent } from './silent.ts';
import { soak } from './soak.ts';

export const scenarios: readonly Scenario[] = [
  link,
  carrier,
  short,
  burst,
  address,
  addressChange,
  mtu,
  silent,
  hostGone,
  kill,
  terminate,
  device,
  backendHang,
  memory,
  management,
  soak,
];
