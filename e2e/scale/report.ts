/** The report of the scale test: one record for each size, kept in a JSON file over several runs. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';

const recordSchema = z.object({
  /** When it was measured, RFC 3339. */
  date: z.string(),
  machine: z.object({
    cpu: z.string(),
    cores: z.int(),
    memoryGiB: z.number(),
    /** Load of the machine (1 minute) before the run: what else ran beside it. */
    loadBefore: z.number(),
  }),
  kubernetes: z.string(),
  nodes: z.int(),
  targets: z.int(),
  /** Whether pods were made and targets became ready; else the operator did everything up to there. */
  pods: z.boolean(),
  /** NvmeofTargetNode objects. */
  objects: z.int(),
  /** From the first target to all objects of all nodes. */
  objectsSeconds: z.number(),
  /** From the first target to Ready of all, with DaemonSet controller, scheduler, kwok and simulated dataplanes. */
  readySeconds: z.number().optional(),
  /** From the first target to the last request of the operator. */
  settledSeconds: z.number(),
  /** The operator's requests until it had come to rest, without watches and its lease, by method. */
  requests: z.record(z.string(), z.int()),
  requestsPerTarget: z.number(),
  requestsPerObject: z.number(),
  /** CPU time of the operator until then. */
  cpuSeconds: z.number(),
  cpuMsPerObject: z.number(),
  residentMiB: z.number(),
  edits: z.object({
    count: z.int(),
    /** From the edit's request to the child's change in a watch. */
    p50Ms: z.number(),
    p99Ms: z.number(),
    maxMs: z.number(),
    /** The operator's requests for each object that an edit changed. */
    requestsPerObject: z.number(),
  }),
  rest: z.object({
    seconds: z.number(),
    /** Beside watches and the lease. */
    requests: z.int(),
    cpuPercent: z.number(),
  }),
});

/** What was measured at one size. */
export type ScaleRecord = z.output<typeof recordSchema>;

const reportSchema = z.object({ records: z.array(recordSchema) });

/** The records of a report, the smallest first; none when there is no file yet. */
export function readReport(path: string): ScaleRecord[] {
  if (!existsSync(path)) return [];
  return reportSchema.parse(JSON.parse(readFileSync(path, 'utf8'))).records;
}

/** Adds a record; it replaces one of the same size. */
export function addRecord(records: readonly ScaleRecord[], record: ScaleRecord): ScaleRecord[] {
  const others = records.filter(
    ({ nodes, targets, pods }) =>
      nodes !== record.nodes || targets !== record.targets || pods !== record.pods,
  );
  return [...others, record].sort((left, right) => left.objects - right.objects);
}

/** Writes a report. */
export function writeReport(path: string, records: readonly ScaleRecord[]): void {
  writeFileSync(path, `${JSON.stringify({ records }, undefined, 2)}\n`);
}

/** The figures that tell how the cost grows with the size, as lines of text. */
export function summaryOf(records: readonly ScaleRecord[]): string {
  const rows = records.map((record) => [
    `${record.nodes} x ${record.targets}`,
    String(record.objects),
    `${record.settledSeconds} s`,
    String(record.requestsPerObject),
    `${record.cpuMsPerObject} ms`,
    `${record.residentMiB} MiB`,
    `${record.edits.p50Ms} / ${record.edits.p99Ms} ms`,
    String(record.edits.requestsPerObject),
  ]);
  const head = [
    ...['nodes x targets', 'objects', 'until at rest', 'requests/object', 'CPU/object', 'memory'],
    ...['edit to child p50 / p99', 'requests/edited object'],
  ];
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  return [head, ...rows]
    .map((row) => row.map((cell, column) => cell.padStart(widths[column] ?? 0)).join('  '))
    .join('\n');
}
