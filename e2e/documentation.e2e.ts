/** Types every command of the documentation, in the order of the pages, where its reader would. */
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type DocumentedCommand, documentedCommands } from './documentation/commands.ts';
import { type Place, type Placeholder, placeOf, reasonNotToRun, withNames } from './documentation/places.ts';
import { type EndToEnd, HOST, NODE, openEndToEnd } from './fixture.ts';
import { connectHost, deleteTarget } from './main-path.ts';
import { waitUntil } from './wait-until.ts';

/** Longer than the longest that a command of the documentation itself waits. */
const COMMAND_TIMEOUT_SECONDS = 330;

const podsSchema = z.object({ items: z.tuple([z.object({ metadata: z.object({ name: z.string() }) })]) });

interface Outcome {
  readonly exitCode: number;
  readonly stderr: string;
}

/** grep says with 1 that there is nothing to show: no fault of the command. */
function isFault(text: string, { exitCode, stderr }: Outcome): boolean {
  const filters = /\|\s*grep\b/.test(text);
  return exitCode !== 0 && !(filters && exitCode === 1 && stderr.trim() === '');
}

describe('the commands of the documentation', () => {
  let e2e: EndToEnd;
  let names: Readonly<Record<Placeholder, string>>;

  const inGuest = async (guest: string, text: string): Promise<Outcome> =>
    e2e.shell.exec(guest, ['sh', '-c', text], { timeoutSeconds: COMMAND_TIMEOUT_SECONDS });

  const runners: Readonly<Record<Place, (text: string) => Promise<Outcome>>> = {
    workstation: (text) => e2e.cluster.shell(text, COMMAND_TIMEOUT_SECONDS),
    node: (text) => inGuest(NODE, text),
    host: (text) => inGuest(HOST, text),
    project: checkOptions,
  };

  /** Commands of the project take long, and start labs: that their help knows the options is checked. */
  async function checkOptions(text: string): Promise<Outcome> {
    const [, name = ''] = /^npm (?:run )?([\w-]+)/.exec(text) ?? [];
    const [, options = ''] = text.split(' -- ', 2);
    const wanted = options.match(/--[a-z-]+/g) ?? [];
    if (wanted.length === 0) return { exitCode: 0, stderr: '' };
    const help = await execa('npm', ['run', '--silent', name, '--', '--help'], { all: true });
    const unknown = wanted.filter((option) => !help.all.includes(option));
    return { exitCode: unknown.length, stderr: unknown.join(' ') };
  }

  const faults = async (commands: readonly DocumentedCommand[]): Promise<string[]> => {
    const found: string[] = [];
    for (const command of commands) {
      if (reasonNotToRun(command) !== undefined) continue;
      const text = withNames(command.text, names);
      const outcome = await runners[placeOf(command) ?? 'workstation'](text);
      if (isFault(text, outcome)) {
        found.push(`${command.page}:${command.line}: ${text}: ${outcome.exitCode} ${outcome.stderr.trim()}`);
      }
    }
    return found;
  };

  const ofPages = async (isPage: (page: string) => boolean): Promise<DocumentedCommand[]> =>
    (await documentedCommands()).filter(({ page }) => isPage(page));

  beforeAll(async () => {
    e2e = await openEndToEnd();
    await e2e.host.prepare();
    const { target } = e2e;
    // The reader begins without it.
    await e2e.cluster.kubectl(['delete', 'namespace', target.namespace, '--wait'], { timeoutSeconds: 180 });
    names = {
      '<NQN shown by discover>': target.nqn,
      'TARGET-NODE': `${target.name}-${NODE}`,
      NAMESPACE: target.namespace,
      TARGET: target.name,
      POD: 'not known yet',
      INTERFACE: 'rdma0',
      DEVICE: 'vda',
    };
  });

  afterAll(async () => {
    await connectHost(e2e.path).catch(() => undefined);
    await deleteTarget(e2e.path);
  });

  it('lead from the README to a host that is connected', async () => {
    expect(await faults(await ofPages((page) => page === 'README.md'))).toEqual([]);
    expect(await e2e.host.waitForNamespaces(e2e.target.nqn, e2e.target.nsids)).toHaveLength(
      e2e.target.nsids.length,
    );
    const pods = await waitUntil(
      'the pod of the target',
      async () => {
        const list = await e2e.cluster.get(['pods', '-n', e2e.target.namespace]);
        return podsSchema.safeParse(list).data;
      },
      { timeoutSeconds: 60 },
    );
    names = { ...names, POD: pods.items[0].metadata.name };
  });

  it('work on every other page', async () => {
    expect(await faults(await ofPages((page) => page !== 'README.md'))).toEqual([]);
  });
});
