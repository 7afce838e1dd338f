import { NODE } from '../../fixture.ts';
import { mustExec } from '../../guest-shell.ts';
import { LINK_LIMITS, type Scenario } from '../scenario.ts';

/**
 * Down and up times in milliseconds. Chosen around the defaults (hold 500 ms, stabilisation 200 ms) and around what
 * arming and a host's reconnect take, so that a link goes while its port holds, drains, arms, and takes connects.
 */
const SERIES: readonly (readonly [downMs: number, upMs: number])[] = [
  [100, 100],
  [600, 150],
  [700, 350],
  [550, 60],
  [900, 700],
  [650, 250],
  [1200, 900],
  [520, 400],
  [800, 1300],
];

/**
 * A host whose connection stood when the link went, but not yet its controller, waits for its own command timeout
 * (60 s): its driver heeds no disconnect in that state. Then it connects anew.
 */
const HALF_CONNECTED_MS = 75_000;

// In the guest, so that no call's latency blurs the series.
const SCRIPT = SERIES.map(
  ([downMs, upMs]) =>
    `ip link set rdma0 down; sleep ${downMs / 1000}; ip link set rdma0 up; sleep ${upMs / 1000}`,
).join('\n');

/** Many flaps in no rhythm: each may hit the recovery from the one before. */
export const burst: Scenario = {
  name: 'burst',
  says: `${SERIES.length + 1} flaps in a row in no rhythm, to hit draining, arming, connecting and recovery`,
  targets: ['weir', 'nvmet'],
  upSeconds: 12,
  recoverySeconds: 120,
  // A link that comes and goes has to be up for longer before the port serves again: up to four times as long.
  limits: () => ({
    ...LINK_LIMITS,
    stallMs: 3000,
    stallConnectInFlightMs: HALF_CONNECTED_MS,
    portServingMs: 2000,
  }),
  fault: ({ lab, shell }) => ({
    begin: () => lab.link(NODE, 'down'),
    during: async () => {
      await mustExec(
        shell,
        NODE,
        ['sh', '-c', `sleep 0.3\nip link set rdma0 up\n${SCRIPT}\nip link set rdma0 down; sleep 1`],
        {
          timeoutSeconds: 60,
        },
      );
    },
    end: () => lab.link(NODE, 'up'),
  }),
  restore: ({ lab }) => lab.link(NODE, 'up'),
};
