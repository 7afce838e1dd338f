/** Where the commands of the documentation are run by the tests, and which are not, and why. */
import type { DocumentedCommand } from './commands.ts';

/**
 * `workstation`: with kubectl and the cluster; `node`: on a node that serves; `host`: on a Linux host that connects;
 * `project`: an npm command of this repository, whose options its help must know.
 */
export type Place = 'workstation' | 'node' | 'host' | 'project';

/** What stands for the reader's own names. The longest first: one may be the beginning of another. */
export const PLACEHOLDERS = [
  '<NQN shown by discover>',
  'TARGET-NODE',
  'NAMESPACE',
  'TARGET',
  'POD',
  'INTERFACE',
  'DEVICE',
  'DISK',
] as const;

/** See {@link PLACEHOLDERS}. */
export type Placeholder = (typeof PLACEHOLDERS)[number];

const PLACES: Readonly<Record<string, Place>> = {
  helm: 'workstation',
  kubectl: 'workstation',
  npm: 'project',
  nvme: 'host',
  cat: 'node',
  dmesg: 'node',
  ethtool: 'node',
  fio: 'host',
  free: 'node',
  ip: 'node',
  modprobe: 'host',
  ps: 'node',
  rdma: 'node',
  sleep: 'node',
};

const RELEASE_TESTED =
  'helm/weir/*.cluster.test.ts does, and looks at what is left; the other tests here need the operator as it is';

/** Commands that are not run as they stand here, by their beginning, and what shows that they are right. */
export const NOT_RUN: Readonly<Record<string, string>> = {
  'docker build':
    'there is no docker in the lab: buildah builds the same Dockerfile before every end-to-end test',
  'docker push': 'the lab has no registry: the image is loaded into the node',
  'helm install':
    'every end-to-end test begins with it, with the image of the lab; and helm/weir/*.cluster.test.ts',
  'helm uninstall': RELEASE_TESTED,
  'helm upgrade': RELEASE_TESTED,
  'helm rollback': RELEASE_TESTED,
  'bin/weir-dataplane --config':
    'standalone.e2e.ts runs it in the image, and examples are checked by crds/examples.test.ts',
};

/** Why a command is not run; `undefined` when it is. */
export function reasonNotToRun({ text }: DocumentedCommand): string | undefined {
  return Object.entries(NOT_RUN).find(([beginning]) => text.startsWith(beginning))?.[1];
}

/** Where a command is run; `undefined` when nobody has said so yet. */
export function placeOf({ text }: DocumentedCommand): Place | undefined {
  return PLACES[text.split(' ', 1)[0] ?? ''];
}

/** The command with the lab's names in place of the reader's; only those that occur are asked for. */
export async function withNames(
  text: string,
  names: Readonly<Record<Placeholder, () => string | Promise<string>>>,
): Promise<string> {
  let filled = text;
  for (const placeholder of PLACEHOLDERS) {
    if (filled.includes(placeholder)) filled = filled.replaceAll(placeholder, await names[placeholder]());
  }
  return filled;
}
