/** `npm run demo`: from nothing to a Linux host doing verified I/O, with the link flapping under it. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { Lab } from '../lab/lab.ts';
import { compareWithKernelTarget } from './comparison.ts';
import { scrapeTarget } from './dataplane-metrics.ts';
import { type DemoReport, emptyReport, isSuccess, renderSummary } from './demo-report.ts';
import { installChart, openCluster, provideImage } from './deployment.ts';
import { HOST, NODE, openEndToEnd } from './fixture.ts';
import {
  addNamespaceLive,
  applyTarget,
  connectHost,
  deleteTarget,
  flapUnderIo,
  type MainPath,
} from './main-path.ts';
import type { HostNamespace } from './nvme-host.ts';
import { Steps } from './steps.ts';

interface DemoOptions {
  readonly report?: string;
  readonly keep: boolean;
  readonly flaps: number;
  readonly compare: boolean;
}

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** Runs the demo; the report says how far it came. Never throws for what a step met. */
async function runDemo(options: DemoOptions, steps: Steps): Promise<DemoReport> {
  const report = emptyReport();
  report.steps = steps.reports;
  const lab = Lab.open({ log: (line) => steps.note(line) });
  try {
    await steps.run('bring up the lab: a cluster, a node and a Linux host', () => lab.up({ hosts: 1 }));
    const image = await steps.run('build the image and load it into the node', () => provideImage(lab));
    const installedAtMs = performance.now();
    await steps.run('helm install', async () => installChart(await openCluster(lab), image));
    const e2e = await openEndToEnd();
    const path = { ...e2e.path, flaps: options.flaps };
    const namespaces = await showFirstIo(path, steps, report);
    report.installToFirstIoSeconds = (performance.now() - installedAtMs) / 1000;
    await showMainPath(path, namespaces, options, steps, report);
  } catch {
    // The step that failed has said why, and is in the report.
  }
  if (!options.keep) {
    await steps.run('take the lab down', () => lab.down()).catch(() => undefined);
  }
  report.ok = isSuccess(report, options.flaps);
  return report;
}

/** From nothing but the operator to the first read of every namespace on the host. */
async function showFirstIo(path: MainPath, steps: Steps, report: DemoReport): Promise<HostNamespace[]> {
  await steps.run(`kubectl apply -f examples/first-target.yaml, wait for Ready`, () => applyTarget(path));
  const namespaces = await steps.run(`nvme discover and nvme connect on ${HOST}`, async () => {
    const found = await connectHost(path);
    for (const namespace of found) await path.host.readOnce(namespace);
    return found;
  });
  report.hostConnected = true;
  steps.note(namespaces.map((one) => `namespace ${one.nsid} is /dev/${one.device}`).join(', '));
  return namespaces;
}

async function showMainPath(
  path: MainPath,
  namespaces: readonly HostNamespace[],
  options: DemoOptions,
  steps: Steps,
  report: DemoReport,
): Promise<void> {
  const { target } = path;
  await steps.run(`fio with verification while the link goes down ${path.flaps} times`, () =>
    flapUnderIo(path, namespaces, steps, report),
  );
  await steps.run('what Kubernetes and the metrics say', () => showRecord(path, steps));
  await steps.run('a namespace added live appears on the host', () => addNamespaceLive(path));
  report.namespaceAddedLive = true;
  if (options.compare) {
    await steps.run("the same fio on Weir and on the kernel's own target", async () => {
      Object.assign(report.figures, await compareWithKernelTarget(path, NODE));
    });
  }
  if (options.keep) return;
  await steps.run(`kubectl delete waits for the host, then drains ${target.name}`, () => deleteTarget(path));
}

/** What a user looks at after an outage. */
async function showRecord(path: MainPath, steps: Steps): Promise<void> {
  const { cluster, target } = path;
  const inNamespace = ['-n', target.namespace];
  const show = async (args: readonly string[]): Promise<void> => {
    steps.note(`$ kubectl ${args.join(' ')}`);
    for (const line of (await cluster.kubectl(args)).trimEnd().split('\n')) steps.note(`  ${line}`);
  };
  await show(['get', 'nvt,nvtn', ...inNamespace]);
  for (const command of ['status', 'hosts', 'history']) await show(['weir', command, ...inNamespace]);
  const scrape = await scrapeTarget(path, NODE);
  for (const direction of ['down', 'up']) {
    const count = scrape.sum('weir_target_link_transitions_total', { direction });
    steps.note(`weir_target_link_transitions_total{direction="${direction}"} ${count}`);
  }
}

function tellHowToUse(path: Pick<DemoOptions, 'keep'>): void {
  if (!path.keep) return;
  print(`\nThe lab is up. Try:
  npm run --silent lab -- status
  npm run --silent lab -- kubectl get nvt,nvtn -A
  npm run --silent lab -- exec ${HOST} nvme list
  npm run --silent lab -- link ${NODE} down
  npm run --silent lab -- down`);
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 0 || count > 1000) {
    throw new InvalidArgumentError('a whole number from 0 to 1000');
  }
  return count;
}

const program = new Command('npm run demo --')
  .description('Shows the main job in the lab, from nothing to verified I/O under link flaps')
  .option('--report <file>', 'write what was seen as JSON')
  .option('--keep', 'leave the lab and the target up', false)
  .option('--flaps <count>', 'how often the link goes down', parseCount, 5)
  .option('--no-compare', "leave out the comparison with the kernel's own target");

await program.parseAsync();
const options = program.opts<DemoOptions>();
const report = await runDemo(options, new Steps(print));
print(`\n${renderSummary(report)}\n`);
if (options.report !== undefined) {
  const file = resolve(options.report);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify(report, null, 2)}\n`);
  print(`report: ${file}`);
}
tellHowToUse(options);
print(report.ok ? 'demo: ok' : 'demo: FAILED');
process.exitCode = report.ok ? 0 : 1;
