/** Which hosts may connect. */
import { z } from 'zod';
import { nqnSchema } from './qualified-name.ts';
import { mapList, withRule } from './rule.ts';

/** Most hosts on an allow-list. */
const HOSTS_MAX = 256;

/** Keys of a Secret that dataplanes see; the admission policy of the operator allows no others. */
export const DHCHAP_SECRET_KEYS = ['hostKey', 'controllerKey'] as const;

const dhchapSchema = z
  .strictObject({
    secretRef: z
      .strictObject({
        name: z
          .string()
          .min(1)
          .max(253)
          .regex(/^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/, { error: 'must be the name of a Secret' })
          .describe('Name of the Secret.'),
      })
      .describe(
        "Secret in the target's namespace. Its key hostKey holds the host's key in the form DHHC-1:…, as nvme gen-dhchap-key makes it; controllerKey the target's own, needed with bidirectional.",
      ),
    hash: z
      .enum(['SHA256', 'SHA384', 'SHA512'])
      .default('SHA256')
      .describe('Hash of challenges and responses.'),
    dhGroup: z
      .enum(['None', 'FFDHE2048', 'FFDHE3072', 'FFDHE4096', 'FFDHE6144', 'FFDHE8192'])
      .default('FFDHE2048')
      .describe(
        'Group of the Diffie-Hellman exchange. With None, whoever reads along can try keys against what was sent.',
      ),
    bidirectional: z
      .boolean()
      .default(false)
      .describe('The target has a key too, and proves who it is to a host that asks for it.'),
  })
  .describe('The host must prove by DH-HMAC-CHAP that it has a key. Without: its NQN is enough.');

const hostSchema = z
  .strictObject({
    nqn: nqnSchema('NQN of the host (/etc/nvme/hostnqn on Linux).'),
    dhchap: dhchapSchema.optional(),
  })
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

/** Names of the Secrets that hosts' keys are in, each once, sorted. */
export function dhchapSecrets(access: Access): string[] {
  const names = access.hosts.flatMap(({ dhchap }) => (dhchap === undefined ? [] : [dhchap.secretRef.name]));
  return [...new Set(names)].sort();
}

/** Host access of a subsystem. */
export type Access = z.output<typeof accessSchema>;
