/** `npm run scale`: how the operator's cost grows with the cluster. */
import { writeFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { lineProgress } from '../../lab/progress.ts';
import { measureScale } from './measure.ts';
import { renderScale } from './picture.ts';
import { addRecord, readReport, writeReport } from './report.ts';

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('write a whole number above 0.');
  return value;
}

const options = new Command('npm run scale --')
  .description('Measures the operator on simulated nodes (kwok), with simulated dataplanes.')
  .option('--nodes <count>', 'nodes', positive, 100)
  .option('--targets <count>', 'targets; each selects ten nodes', positive, 100)
  .option(
    '--no-pods',
    'the operator alone: no DaemonSet controller, no scheduler, so no target becomes ready',
  )
  .option(
    '--report <file>',
    'JSON file to which the size is added; a picture (.svg) is written beside it',
    'report-scale.json',
  )
  .option('--timeout <seconds>', 'longest wait for all to be ready', positive, 1200)
  .parse()
  .opts<{ nodes: number; targets: number; pods: boolean; report: string; timeout: number }>();

const { nodes, targets, pods, timeout: timeoutSeconds } = options;
const record = await measureScale(
  { nodes, targets, pods, timeoutSeconds, restSeconds: 20 },
  lineProgress((line) => console.error(line)),
);
const records = addRecord(readReport(options.report), record);
writeReport(options.report, records);
writeFileSync(options.report.replace(/(\.json)?$/, '.svg'), renderScale(records));
console.log(JSON.stringify(record, undefined, 2));
