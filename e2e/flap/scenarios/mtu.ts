import { setTimeout as sleep } from 'node:timers/promises';
import { NODE } from '../../fixture.ts';
import { type GuestShell, mustExec } from '../../guest-shell.ts';
import { LINK_LIMITS, type Scenario } from '../scenario.ts';

const DOWN_SECONDS = 3;
/** What the lab's network carries, and what a misconfigured interface would be set to. */
const FULL_BYTES = 4200;
const SMALL_BYTES = 1500;

async function setMtu(shell: GuestShell, bytes: number): Promise<void> {
  await mustExec(shell, NODE, ['ip', 'link', 'set', 'rdma0', 'mtu', String(bytes)]);
}

/** The interface's MTU becomes too small for what the connections agreed on, and large again. */
export const mtu: Scenario = {
  name: 'mtu',
  says: `the node's MTU is lowered from ${FULL_BYTES} to ${SMALL_BYTES} for ${DOWN_SECONDS} s and raised again`,
  targets: ['weir', 'nvmet'],
  upSeconds: 8,
  // The port never stops serving: nothing went down.
  limits: () => ({ ...LINK_LIMITS, portServingMs: 0 }),
  fault: ({ shell }) => ({
    begin: () => setMtu(shell, SMALL_BYTES),
    during: () => sleep(DOWN_SECONDS * 1000),
    end: () => setMtu(shell, FULL_BYTES),
  }),
  restore: ({ shell }) => setMtu(shell, FULL_BYTES),
};
