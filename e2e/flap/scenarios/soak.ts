import { setTimeout as sleep } from 'node:timers/promises';
import { NODE } from '../../fixture.ts';
import type { Scenario } from '../scenario.ts';

const SHORT_MS = 50;
/** Longer than the hold time: drained, and armed afresh. */
const LONG_MS = 900;
/** Every so many flaps one is long. */
const LONG_EVERY = 10;

const isLong = (flap: number): boolean => flap % LONG_EVERY === 0;

/** Very many flaps, for what only adds up over time. */
export const soak: Scenario = {
  name: 'soak',
  says: `very many flaps (--flaps 1000): the cable out for ${SHORT_MS / 1000} s, every ${LONG_EVERY}th time 'ip link set down' for ${LONG_MS / 1000} s: nothing is left over after any, memory stays flat`,
  targets: ['weir'],
  upSeconds: 0,
  // How soon I/O flows is measured elsewhere; here it only has to.
  limits: () => ({ stallMs: null, stallConnectInFlightMs: null, portServingMs: null, restarts: 0 }),
  fault: ({ lab }, flap) => {
    const from = isLong(flap) ? 'inside' : 'outside';
    return {
      begin: () => lab.link(NODE, 'down', { from }),
      during: () => sleep(isLong(flap) ? LONG_MS : SHORT_MS),
      end: () => lab.link(NODE, 'up', { from }),
    };
  },
  restore: async ({ lab }) => {
    await lab.link(NODE, 'up');
    await lab.link(NODE, 'up', { from: 'outside' });
  },
  countsAfterEach: true,
};
