import { setTimeout as sleep } from 'node:timers/promises';
import { planGuest } from '../../../lab/guests/plan.ts';
import { NODE } from '../../fixture.ts';
import { type GuestShell, mustExec } from '../../guest-shell.ts';
import type { Limits } from '../report.ts';
import { LINK_LIMITS, type Scenario } from '../scenario.ts';

const DOWN_SECONDS = 3;

/**
 * Hosts cannot be told: what the kernel's connection manager sends for their connections is bound to the former GID,
 * which does not come back with the address. They find out by their keep-alive (5 s), and reconnect a second later.
 */
export const ADDRESS_LIMITS: Limits = { ...LINK_LIMITS, stallMs: 10_000, stallConnectInFlightMs: 10_000 };

const own = `${planGuest(NODE).rdmaAddress}/24`;

/** Adds or removes an address of the node's RDMA interface; harmless when it is so already. */
export async function setAddress(
  shell: GuestShell,
  action: 'replace' | 'del',
  address: string,
): Promise<void> {
  await mustExec(shell, NODE, ['ip', 'address', action, address, 'dev', 'rdma0']);
}

/** The listener's address goes and comes. */
export const address: Scenario = {
  name: 'address',
  says: `the address that the target listens on is removed for ${DOWN_SECONDS} s and added back`,
  targets: ['weir', 'nvmet'],
  upSeconds: 12,
  limits: () => ADDRESS_LIMITS,
  fault: ({ shell }) => ({
    begin: () => setAddress(shell, 'del', own),
    during: () => sleep(DOWN_SECONDS * 1000),
    end: () => setAddress(shell, 'replace', own),
  }),
  restore: ({ shell }) => setAddress(shell, 'replace', own),
};
