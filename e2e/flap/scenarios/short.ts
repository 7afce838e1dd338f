import { setTimeout as sleep } from 'node:timers/promises';
import { NODE } from '../../fixture.ts';
import { queuePairFailed } from '../dataplane-log.ts';
import { LINK_LIMITS, type Scenario } from '../scenario.ts';

/** Less than the hold time (500 ms), with room for what a call takes on an emulated guest. */
const DOWN_MS = 200;

/** How far the clocks of the node and of this machine may be apart after they were compared. */
const CLOCK_TOLERANCE_MS = 300;

/** The cable is out for less than the hold time: queue pairs survive that, and so must connections. */
export const short: Scenario = {
  name: 'short',
  says: `the cable is out for ${DOWN_MS / 1000} s, less than the hold time: no connection is lost whose queue pair survives`,
  targets: ['weir', 'nvmet'],
  upSeconds: 5,
  limits: () => LINK_LIMITS,
  fault: ({ lab }) => ({
    begin: () => lab.link(NODE, 'down', { from: 'outside' }),
    during: () => sleep(DOWN_MS),
    end: () => lab.link(NODE, 'up', { from: 'outside' }),
  }),
  check: async ({ target, eventsSince, remark, miss }, { reconnects, downMs }, downAtMs) => {
    if (reconnects === 0 || target.name !== 'weir') return;
    // A queue pair that sends while the cable is out may fail by itself.
    const events = await eventsSince(downAtMs - CLOCK_TOLERANCE_MS);
    if (queuePairFailed(events, 0)) remark('a queue pair had failed by itself');
    else miss(`reconnect after only ${downMs} ms although the queue pairs survived`);
  },
  restore: ({ lab }) => lab.link(NODE, 'up', { from: 'outside' }),
};
