import { setTimeout as sleep } from 'node:timers/promises';
import { NODE } from '../../fixture.ts';
import { LINK_LIMITS, type Scenario } from '../scenario.ts';

const DOWN_SECONDS = 3;
const UP_SECONDS = 12;

/** `ip link set down` and `up` on the node. */
export const link: Scenario = {
  name: 'link',
  says: `'ip link set down' on the node for ${DOWN_SECONDS} s, then up for ${UP_SECONDS} s`,
  targets: ['weir', 'nvmet'],
  upSeconds: UP_SECONDS,
  limits: () => LINK_LIMITS,
  fault: ({ lab }) => ({
    begin: () => lab.link(NODE, 'down'),
    during: () => sleep(DOWN_SECONDS * 1000),
    end: () => lab.link(NODE, 'up'),
  }),
  restore: ({ lab }) => lab.link(NODE, 'up'),
};

/** The cable is pulled. */
export const carrier: Scenario = {
  name: 'carrier',
  says: `the cable of the node is pulled for ${DOWN_SECONDS} s, then back for ${UP_SECONDS} s`,
  targets: ['weir', 'nvmet'],
  upSeconds: UP_SECONDS,
  limits: () => LINK_LIMITS,
  fault: ({ lab }) => ({
    begin: () => lab.link(NODE, 'down', { from: 'outside' }),
    during: () => sleep(DOWN_SECONDS * 1000),
    end: () => lab.link(NODE, 'up', { from: 'outside' }),
  }),
  restore: ({ lab }) => lab.link(NODE, 'up', { from: 'outside' }),
};
