import { setTimeout as sleep } from 'node:timers/promises';
import { NODE } from '../../fixture.ts';
import { LINK_LIMITS, type Scenario } from '../scenario.ts';

/** Less than the hold time (500 ms), with room for what a call takes on an emulated guest. */
const DOWN_MS = 200;

/** The cable is out for less than the hold time: queue pairs survive that, and so must connections. */
export const short: Scenario = {
  name: 'short',
  says: `the cable is out for ${DOWN_MS / 1000} s, less than the hold time: no connection may be lost`,
  targets: ['weir', 'nvmet'],
  upSeconds: 5,
  limits: () => LINK_LIMITS,
  fault: ({ lab }) => ({
    begin: () => lab.link(NODE, 'down', { from: 'outside' }),
    during: () => sleep(DOWN_MS),
    end: () => lab.link(NODE, 'up', { from: 'outside' }),
  }),
  check: async ({ miss }, { reconnects, downMs }) => {
    if (reconnects > 0) miss(`${reconnects} reconnects after only ${downMs} ms`);
  },
  restore: ({ lab }) => lab.link(NODE, 'up', { from: 'outside' }),
};
