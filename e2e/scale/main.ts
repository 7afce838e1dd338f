/** `npm run scale`: how the operator's cost grows with the cluster. */
import { writeFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import { lineProgress } from '../../lab/progress.ts';
import { measureScale } from './measure.ts';
import { renderScale } from './picture.ts';
import { addRecord, readReport, type ScaleRecord, summaryOf, writeReport } from './report.ts';
import { type ClusterSize, parseSizes } from './sizes.ts';

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('write a whole number above 0.');
  return value;
}

const options = new Command('npm run scale --')
  .description('Measures the operator on simulated nodes (kwok), with simulated dataplanes.')
  .addOption(
    new Option(
      '--sizes <list>',
      'several sizes, one after the other: 250,500,1000 (as many targets as nodes) or 100x50 (nodes x targets)',
    )
      .argParser(parseSizes)
      .conflicts(['nodes', 'targets']),
  )
  .option('--nodes <count>', 'nodes', positive, 100)
  .option('--targets <count>', 'targets; each selects ten nodes', positive, 100)
  .option(
    '--no-pods',
    'the operator alone: no DaemonSet controller, no scheduler, so no target becomes ready',
  )
  .option(
    '--report <file>',
    'JSON file to which each size is added; a picture (.svg) is written beside it',
    'report-scale.json',
  )
  .option('--timeout <seconds>', 'longest wait for all to be ready', positive, 3600)
  .parse()
  .opts<{
    sizes?: ClusterSize[];
    nodes: number;
    targets: number;
    pods: boolean;
    report: string;
    timeout: number;
  }>();

const { nodes, targets, pods, timeout: timeoutSeconds, report } = options;
const picture = report.replace(/(\.json)?$/, '.svg');
const progress = lineProgress((line) => console.error(line));
const measured: ScaleRecord[] = [];
for (const size of options.sizes ?? [{ nodes, targets }]) {
  progress.note(`${size.nodes} nodes, ${size.targets} targets${pods ? '' : ', without pods'}`);
  const record = await measureScale({ ...size, pods, timeoutSeconds, restSeconds: 20 }, progress);
  // After each: a size that fails, or is interrupted, takes nothing away.
  const records = addRecord(readReport(report), record);
  writeReport(report, records);
  writeFileSync(picture, renderScale(records));
  console.log(JSON.stringify(record, undefined, 2));
  measured.push(record);
}
progress.note(`${summaryOf(measured)}\n${report} and ${picture} hold these and what was measured before.`);
