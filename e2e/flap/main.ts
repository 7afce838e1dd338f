/** `npm run flap`: every kind of outage that a guest can have, under verified I/O, on Weir and on the kernel's target. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { Lab } from '../../lab/lab.ts';
import { installChart, OPERATOR_NAMESPACE, openCluster, provideImage, restartPods } from '../deployment.ts';
import { openEndToEnd } from '../fixture.ts';
import { Steps } from '../steps.ts';
import { makeTarget } from './make-target.ts';
import { renderPicture } from './picture.ts';
import { renderTable, type ScenarioRecord, type TargetName, targetNames, violations } from './report.ts';
import { runScenario } from './run-scenario.ts';
import { scenarios } from './scenarios/all.ts';

interface FlapOptions {
  readonly target: TargetName | 'both';
  readonly scenario: string;
  readonly flaps: number;
  readonly report?: string;
  readonly keep: boolean;
}

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > 100_000) {
    throw new InvalidArgumentError('a whole number from 1 to 100000');
  }
  return count;
}

const width = Math.max(...scenarios.map(({ name }) => name.length));
const program = new Command('npm run flap --')
  .description("Outages of every kind under verified I/O, on Weir and on the kernel's own target, in the lab")
  .addOption(
    new Option('--target <target>', 'what is flapped').choices([...targetNames, 'both']).default('both'),
  )
  .addOption(
    new Option('--scenario <name>', 'what happens to it')
      .choices([...scenarios.map(({ name }) => name), 'all'])
      .default('all'),
  )
  .option('--flaps <count>', 'how often in each scenario', parseCount, 6)
  .option('--report <file>', 'write what was seen as JSON, and the I/O rates as a picture (.svg) beside it')
  .option('--keep', 'leave the lab up', false)
  .addHelpText(
    'after',
    `\nScenarios:\n${scenarios.map(({ name, says }) => `  ${name.padEnd(width)}  ${says}`).join('\n')}`,
  );

await program.parseAsync();
const options = program.opts<FlapOptions>();
const steps = new Steps(print);
const records: ScenarioRecord[] = [];
let broken = false;

/** The picture lies beside the report. */
const pictureFile = (file: string): string => `${file.replace(/\.json$/, '')}.svg`;

/** Written after every scenario: a long run that is broken off leaves what it saw. */
async function writeReport(): Promise<void> {
  if (options.report === undefined) return;
  const file = resolve(options.report);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify(records)}\n`);
  const says = (name: string): string => scenarios.find((one) => one.name === name)?.says ?? '';
  await writeFile(pictureFile(file), renderPicture(records, says));
}

const lab = Lab.open({ log: (line) => steps.note(line) });
const wasUp = lab.status().guests.some(({ running }) => running);
try {
  await steps.run('bring up the lab: a cluster, a node and a Linux host', () => lab.up({ hosts: 1 }));
  await steps.run('build the image, load it, install the chart', async () =>
    installChart(await openCluster(lab), await provideImage(lab)),
  );
  const e2e = await openEndToEnd();
  if (wasUp) {
    await steps.run('restart what the lab ran already: it may be of an older image', () =>
      restartPods(e2e.cluster, [OPERATOR_NAMESPACE, e2e.target.namespace]),
    );
  }
  const where = { e2e, note: (line: string) => steps.note(line) };
  for (const scenario of scenarios) {
    if (options.scenario !== 'all' && scenario.name !== options.scenario) continue;
    for (const name of scenario.targets) {
      if (options.target !== 'both' && name !== options.target) continue;
      await steps.run(`${scenario.name} on ${name}`, async () => {
        const record = await runScenario(where, makeTarget(e2e, name, scenario), scenario, options.flaps);
        records.push(record);
        await writeReport();
      });
    }
  }
} catch {
  // The step that failed has said why.
  broken = true;
}
if (!options.keep) await steps.run('take the lab down', () => lab.down()).catch(() => undefined);

print(`\n${renderTable(records)}\n`);
const missed = records
  .filter(({ target }) => target === 'weir')
  .flatMap((record) => violations(record).map((words) => `${record.scenario}: ${words}`));
for (const words of missed) print(`weir missed: ${words}`);
if (options.report !== undefined) {
  print(`report: ${resolve(options.report)}\npicture: ${pictureFile(resolve(options.report))}`);
}
const ok = !broken && missed.length === 0 && records.length > 0;
print(ok ? 'flap: ok' : 'flap: FAILED');
process.exitCode = ok ? 0 : 1;
