import { setTimeout as sleep } from 'node:timers/promises';
import { NODE } from '../../fixture.ts';
import { LINK_LIMITS, type Scenario } from '../scenario.ts';

const SHORT_MS = 150;
/** Longer than the hold time: drained, and armed afresh. */
const LONG_MS = 900;
/** Every so many flaps one is long. */
const LONG_EVERY = 4;

/** Very many flaps, for what only adds up over time. */
export const soak: Scenario = {
  name: 'soak',
  says: `very many flaps (--flaps 1000), one after the other, every ${LONG_EVERY}th longer than the hold time: nothing is left over after any, memory stays flat`,
  targets: ['weir'],
  upSeconds: 0,
  limits: () => LINK_LIMITS,
  fault: ({ lab }, flap) => ({
    begin: () => lab.link(NODE, 'down'),
    during: () => sleep(flap % LONG_EVERY === 0 ? LONG_MS : SHORT_MS),
    end: () => lab.link(NODE, 'up'),
  }),
  restore: ({ lab }) => lab.link(NODE, 'up'),
  measuresMemory: true,
};
