/** Types every command of the documentation, in the order of the pages, where its reader would. */
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type DocumentedCommand, documentedCommands } from './documentation/commands.ts';
import { type Place, type Placeholder, placeOf, reasonNotToRun, withNames } from './documentation/places.ts';
import { type EndToEnd, HOST, NODE, openEndToEnd } from './fixture.ts';
import { applyTarget, connectHost, deleteTarget } from './main-path.ts';

/** Longer than the longest that a command of the documentation itself waits. */
const COMMAND_TIMEOUT_SECONDS = 330;

const podsSchema = z.object({ items: z.tuple([z.object({ metadata: z.object({ name: z.string() }) })]) });

const TUTORIAL = 'docs/tutorials/first-target.md';

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
  const names: Readonly<Record<Placeholder, () => string | Promise<string>>> = {
    '<NQN shown by discover>': () => e2e.target.nqn,
    'TARGET-NODE': () => `${e2e.target.name}-${NODE}`,
    NAMESPACE: () => e2e.target.namespace,
    TARGET: () => e2e.target.name,
    POD: podOfTarget,
    INTERFACE: () => 'rdma0',
    DEVICE: () => 'vda',
    DISK: diskOfHost,
  };

  async function podOfTarget(): Promise<string> {
    const list = await e2e.cluster.get(['pods', '-n', e2e.target.namespace]);
    return podsSchema.parse(list).items[0].metadata.name;
  }

  async function diskOfHost(): Promise<string> {
    const [first] = await e2e.host.waitForNamespaces(e2e.target.nqn, e2e.target.nsids);
    return first?.device ?? '';
  }

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
    const help = await execa('npm', ['run', '--silent', name, '--', '--help'], { all: true, reject: false });
    const unknown = wanted.filter((option) => !help.all.includes(option));
    return { exitCode: unknown.length, stderr: unknown.join(' ') };
  }

  const faults = async (commands: readonly DocumentedCommand[]): Promise<string[]> => {
    const found: string[] = [];
    for (const command of commands) {
      if (reasonNotToRun(command) !== undefined) continue;
      const text = await withNames(command.text, names);
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
    // The reader begins without it.
    const { namespace } = e2e.target;
    await e2e.cluster.kubectl(['delete', 'namespace', namespace, '--wait'], { timeoutSeconds: 180 });
  });

  it('of the tutorial lead to a host that writes, through an outage, and back to nothing', async () => {
    expect(await faults(await ofPages((page) => page === TUTORIAL))).toEqual([]);
  });

  it('of every other page work while a host uses a target', async () => {
    await applyTarget(e2e.path);
    await connectHost(e2e.path);
    expect(await faults(await ofPages((page) => page !== TUTORIAL))).toEqual([]);
  });

  afterAll(() => deleteTarget(e2e.path));
});
