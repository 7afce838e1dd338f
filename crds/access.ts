/** Which hosts may connect. */
import { z } from 'zod';
import { nqnSchema } from './qualified-name.ts';
import { mapList, withRule } from './rule.ts';

/** Most hosts on an allow-list. */
const HOSTS_MAX = 256;

const hostSchema = z
  .strictObject({ nqn: nqnSchema('NQN of the host (/etc/nvme/hostnqn on Linux).') })
  .describe('A host that may connect.');

/** Host access of a subsystem: closed unless hosts are named. */
export const accessSchema = withRule(
  z.strictObject({
    policy: z
      .enum(['AllowList', 'AnyHost'])
      .default('AllowList')
      .describe('AllowList: only the hosts named here. AnyHost: every host that reaches a listener.'),
    hosts: mapList(hostSchema, ['nqn'], { maxItems: HOSTS_MAX })
      .describe('Hosts that may connect; none when empty.')
      .default([]),
  }),
  {
    rule: "self.policy == 'AllowList' || self.hosts.size() == 0",
    message: 'with policy AnyHost the list of hosts has no effect: remove hosts, or set policy: AllowList',
  },
  (access) => access.policy === 'AllowList' || access.hosts.length === 0,
).describe('Which hosts may connect.');

/** Host access of a subsystem. */
export type Access = z.output<typeof accessSchema>;
