/** The report of `npm run flap`: its schema, what Weir must reach, and the table at the end. */
import { z } from 'zod';

/** What is flapped: Weir, or the kernel's own target beside it. */
export const targetNames = ['weir', 'nvmet'] as const;
/** One of the two. */
export type TargetName = (typeof targetNames)[number];

const milliseconds = z.number().nonnegative();

const flapSchema = z.object({
  /** From the fault to its end, milliseconds. */
  downMs: milliseconds,
  /** From the end of the fault to the first I/O that finished on the host; null: none did within the limit. */
  stallAfterUpMs: milliseconds.nullable(),
  /** I/O errors that the host's block layer reported to its users during this flap, by its kernel log. */
  hostIoErrors: z.int().nonnegative(),
  /** The host had a connect of its own under way when the fault ended, by its kernel log. */
  hostConnectInFlight: z.boolean(),
  /** From the end of the fault until the host knew that its connection was lost, by its kernel log; null: it knew before, or never had to. */
  hostToldAfterUpMs: milliseconds.nullable(),
  /** From the end of the fault until the port was `Serving`, by the dataplane's log; null: not, or not known. */
  portServingAfterUpMs: milliseconds.nullable(),
  /** Resident memory of the target's process after the flap, KiB; null: not measured. */
  rssKiB: z.int().nullable(),
  /** What of that is anonymous: no page of a file, which the kernel may drop and read again. KiB; null: not measured. */
  anonymousKiB: z.int().nullable(),
  /** Times that the host gave up its connection and made a new one. */
  reconnects: z.int().nonnegative(),
  /** Figures and observations that only this scenario has. */
  remarks: z.array(z.string()),
  /** What the scenario itself found to be wrong. */
  missed: z.array(z.string()),
});
/** One flap. */
export type FlapRecord = z.output<typeof flapSchema>;

const leaksSchema = z.object({
  /** Open descriptors of the target's process but for established TCP connections; null for a target without one. */
  fds: z.int().nullable(),
  qps: z.int(),
  mrs: z.int(),
  cqs: z.int(),
  pds: z.int(),
  cmIds: z.int(),
  /** Resident memory of the target's process, KiB; null for a target without one. */
  rssKiB: z.int().nullable(),
  /** What of that is no page of a file, KiB; null for a target without a process. */
  anonymousKiB: z.int().nullable(),
});
/** What a target holds, or how much more than before. */
export type ResourceCounts = z.output<typeof leaksSchema>;

const slopeSchema = z.object({
  /** Least squares over the means of blocks of flaps, KiB for each flap. */
  kibPerFlap: z.number(),
  /** Half the width of the 95 % confidence interval. */
  halfWidth: z.number(),
  /** Flaps at the beginning that are left out: a fresh process still grows to its working size. */
  warmUpFlaps: z.int().nonnegative(),
  /** Flaps in a block. Garbage is collected once in many flaps: neighbours are no independent measurements. */
  flapsPerBlock: z.int().positive(),
  blocks: z.int().positive(),
});

/** How memory develops. */
export type MemorySlope = z.output<typeof slopeSchema>;

const limitsSchema = z.object({
  /** Longest stall of a flap without a connect of the host's own under way. */
  stallMs: milliseconds.nullable(),
  /** The same with one. */
  stallConnectInFlightMs: milliseconds.nullable(),
  /** Latest moment at which the port serves. */
  portServingMs: milliseconds.nullable(),
  /** Restarts of the target's process that the scenario itself causes. */
  restarts: z.int().nonnegative(),
});
/** What Weir must keep to in a scenario. */
export type Limits = z.output<typeof limitsSchema>;

const rateSchema = z.object({
  /** Width of a bin, milliseconds. */
  binMs: z.number().positive(),
  /** I/Os that finished on the host in each bin, from the beginning on. */
  finished: z.array(z.int().nonnegative()),
  /** Start and end of every fault, milliseconds since the beginning. */
  outages: z.array(z.tuple([milliseconds, milliseconds])),
});
/** What the picture is drawn from. */
export type RateRecord = z.output<typeof rateSchema>;

/** One scenario on one target. */
export const scenarioRecordSchema = z.object({
  target: z.enum(targetNames),
  scenario: z.string(),
  flaps: z.array(flapSchema),
  verifyErrors: z.int().nonnegative(),
  /** Errors that fio itself counted, over the whole scenario. */
  fioIoErrors: z.int().nonnegative(),
  reconnects: z.int().nonnegative(),
  targetRestarts: z.int().nonnegative(),
  /** What the target held at the end more than before the first flap, with the host connected both times. */
  leaks: leaksSchema,
  /** Anonymous memory over the flaps; only where it was measured after each of enough of them. */
  memorySlope: slopeSchema.nullable(),
  limits: limitsSchema,
  /** The device's management queue pair was dead after the scenario, and the device had to be made anew. */
  managementQueuePairDied: z.boolean(),
  /** Processes that wanted a processor of this machine, averaged over the last minute of the run: guests are slow when it is busy. */
  machineLoad: z.number().nonnegative(),
  /** Kernel of the guests, and when the scenario began. */
  kernel: z.string(),
  startedAt: z.iso.datetime(),
  rate: rateSchema,
  /** Why the scenario could not be carried through; absent when it was. */
  failure: z.string().optional(),
});
/** One scenario on one target. */
export type ScenarioRecord = z.output<typeof scenarioRecordSchema>;

/** The file that `--report` writes. */
export const reportSchema = z.array(scenarioRecordSchema);

/** Resources of which not one may be left over. */
const COUNTED = ['fds', 'qps', 'mrs', 'cqs', 'pds', 'cmIds'] as const;

/** Every figure that a record misses, in words; empty when all are reached. */
export function violations(record: ScenarioRecord): string[] {
  const { limits } = record;
  const found: string[] = [];
  const miss = (condition: boolean, words: string): void => {
    if (condition) found.push(words);
  };
  miss(record.failure !== undefined, record.failure ?? '');
  record.flaps.forEach((flap, index) => {
    const which = `flap ${index + 1}`;
    const limit = flap.hostConnectInFlight ? limits.stallConnectInFlightMs : limits.stallMs;
    if (flap.stallAfterUpMs === null) found.push(`${which}: I/O never moved again`);
    else miss(limit !== null && flap.stallAfterUpMs > limit, `${which}: stall ${flap.stallAfterUpMs} ms`);
    miss(flap.hostIoErrors > 0, `${which}: ${flap.hostIoErrors} I/O errors on the host`);
    for (const words of flap.missed) found.push(`${which}: ${words}`);
    if (limits.portServingMs !== null) {
      const serving = flap.portServingAfterUpMs;
      miss(serving === null, `${which}: the port was not seen Serving`);
      miss(serving !== null && serving > limits.portServingMs, `${which}: port Serving after ${serving} ms`);
    }
  });
  miss(record.verifyErrors > 0, `${record.verifyErrors} verification errors`);
  miss(record.fioIoErrors > 0, `${record.fioIoErrors} I/O errors of fio`);
  miss(
    record.targetRestarts !== limits.restarts,
    `${record.targetRestarts} restarts of the target, ${limits.restarts} expected`,
  );
  for (const kind of COUNTED) {
    const left = record.leaks[kind];
    miss(left !== null && left > 0, `${left} ${kind} left over`);
  }
  const slope = record.memorySlope;
  if (slope !== null) {
    miss(
      slope.kibPerFlap - slope.halfWidth > 0,
      `memory grows by ${slope.kibPerFlap.toFixed(1)} ± ${slope.halfWidth.toFixed(1)} KiB a flap`,
    );
  }
  miss(record.managementQueuePairDied, "the device's management queue pair died");
  return found;
}

const seconds = (value: number | null): string => (value === null ? '-' : (value / 1000).toFixed(1));

function stalls(flaps: readonly FlapRecord[]): string {
  if (flaps.length === 0) return '-';
  return flaps.length > 20
    ? `${flaps.length}: median ${seconds(median(flaps.map(stallOf)))}, max ${seconds(Math.max(...flaps.map(stallOf)))}`
    : flaps.map((flap) => seconds(flap.stallAfterUpMs)).join(' ');
}

const stallOf = (flap: FlapRecord): number => flap.stallAfterUpMs ?? Number.POSITIVE_INFINITY;

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
}

function servingWithin(flaps: readonly FlapRecord[]): string {
  const known = flaps.flatMap((flap) => flap.portServingAfterUpMs ?? []);
  return known.length === 0 ? '-' : seconds(Math.max(...known));
}

const HEADINGS = [
  'scenario',
  'target',
  'stall after link-up, s',
  'with a connect of the host under way, s',
  'port serves within, s',
  'I/O errors',
  'verify errors',
  'reconnects',
  'restarts',
  'left over (fd qp mr cq pd cm)',
];

function leftOver(record: ScenarioRecord): string {
  return COUNTED.map((kind) => record.leaks[kind] ?? '-').join(' ');
}

/** The table that a person reads at the end. */
export function renderTable(records: readonly ScenarioRecord[]): string {
  const rows = records.map((record) => [
    record.scenario,
    record.target,
    stalls(record.flaps.filter((flap) => !flap.hostConnectInFlight)),
    stalls(record.flaps.filter((flap) => flap.hostConnectInFlight)),
    servingWithin(record.flaps),
    String(
      Math.max(
        record.fioIoErrors,
        record.flaps.reduce((sum, flap) => sum + flap.hostIoErrors, 0),
      ),
    ),
    String(record.verifyErrors),
    String(record.reconnects),
    String(record.targetRestarts),
    leftOver(record),
  ]);
  const widths = HEADINGS.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return [line(HEADINGS), line(widths.map((width) => '─'.repeat(width))), ...rows.map(line)].join('\n');
}
