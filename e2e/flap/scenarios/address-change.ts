import { planGuest } from '../../../lab/guests/plan.ts';
import { NODE } from '../../fixture.ts';
import { waitUntil } from '../../wait-until.ts';
import type { Scenario } from '../scenario.ts';
import { ADDRESS_LIMITS, setAddress } from './address.ts';

/** In the network that the example's listener is given by. */
const OTHER_ADDRESS = '10.9.0.101';
const FLOW_TIMEOUT_SECONDS = 60;
const FLOW = 30;

const own = planGuest(NODE).rdmaAddress;

/** The node gets another address in the listener's network, and its old one back. */
export const addressChange: Scenario = {
  name: 'address-change',
  says: `the node's address becomes ${OTHER_ADDRESS}, which the listener (given by its network) follows: the host connects there and goes on; then back`,
  targets: ['weir'],
  upSeconds: 8,
  limits: () => ADDRESS_LIMITS,
  fault: ({ shell, host, target, completed, remark }) => ({
    begin: async () => {
      await setAddress(shell, 'del', `${own}/24`);
      await setAddress(shell, 'replace', `${OTHER_ADDRESS}/24`);
    },
    during: async () => {
      const since = Date.now();
      await waitUntil(
        'the host to connect to the other address',
        async () => {
          await host.connect({ ...target.address, address: OTHER_ADDRESS }, target.nqn);
          return true;
        },
        { timeoutSeconds: FLOW_TIMEOUT_SECONDS },
      );
      const goal = completed() + FLOW;
      await waitUntil('I/O by the other address', () => completed() >= goal || undefined, {
        timeoutSeconds: FLOW_TIMEOUT_SECONDS,
        intervalMilliseconds: 100,
      });
      remark(`I/O by the other address after ${((Date.now() - since) / 1000).toFixed(1)} s`);
    },
    end: async () => {
      await setAddress(shell, 'del', `${OTHER_ADDRESS}/24`);
      await setAddress(shell, 'replace', `${own}/24`);
    },
  }),
  check: async ({ host }) => {
    await host.disconnectFrom(OTHER_ADDRESS);
  },
  restore: async ({ shell, host }) => {
    await shell.exec(NODE, ['ip', 'address', 'del', `${OTHER_ADDRESS}/24`, 'dev', 'rdma0']);
    await setAddress(shell, 'replace', `${own}/24`);
    await host.disconnectFrom(OTHER_ADDRESS);
  },
};
