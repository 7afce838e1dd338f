/** The demo's report: the JSON of `--report` and the table at the end. */

/** One step of the demo. */
export interface StepReport {
  readonly name: string;
  readonly seconds: number;
  readonly ok: boolean;
  readonly error?: string;
}

/** fio on one namespace. */
export interface NamespaceFioReport {
  readonly namespace: string;
  readonly ok: boolean;
  readonly verifyErrors: number;
  readonly ioErrors: number;
  readonly writeIops: number;
  readonly readIops: number;
  readonly meanLatencyMicroseconds: number;
}

/** One outage as the host saw it. */
export interface OutageReport {
  readonly downMs: number;
  readonly stallAfterUpMs: number;
  /** The host had a connect of its own under way at link-up: its own timers decide then when it asks again. */
  readonly hostConnectInFlight: boolean;
}

/** Everything the demo saw. */
export interface DemoReport {
  ok: boolean;
  hostConnected: boolean;
  fio: NamespaceFioReport[];
  flaps: OutageReport[];
  dataplaneRestarts: number;
  namespaceAddedLive: boolean;
  /** From the start of `helm install` to the end of the first read on the host; absent when it did not come so far. */
  installToFirstIoSeconds?: number;
  steps: StepReport[];
  figures: Record<string, number>;
}

/** A report of nothing yet: not ok until everything is. */
export function emptyReport(): DemoReport {
  return {
    ok: false,
    hostConnected: false,
    fio: [],
    flaps: [],
    dataplaneRestarts: 0,
    namespaceAddedLive: false,
    steps: [],
    figures: {},
  };
}

/** True only when every promise of the demo was kept; `flapsWanted` outages must all have been seen. */
export function isSuccess(report: DemoReport, flapsWanted: number): boolean {
  return (
    report.hostConnected &&
    report.namespaceAddedLive &&
    report.fio.length > 0 &&
    report.fio.every((run) => run.ok && run.verifyErrors === 0 && run.ioErrors === 0) &&
    report.flaps.length === flapsWanted &&
    report.dataplaneRestarts === 0 &&
    report.steps.length > 0 &&
    report.steps.every((step) => step.ok)
  );
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(1)} s`;

/** The table a person reads at the end. */
export function renderSummary(report: DemoReport): string {
  const rows: [string, string][] = [
    ['host connected', report.hostConnected ? 'yes' : 'NO'],
    [
      'from helm install to first I/O',
      report.installToFirstIoSeconds === undefined
        ? 'NONE'
        : `${report.installToFirstIoSeconds.toFixed(1)} s`,
    ],
    [
      'I/O',
      report.fio
        .map(
          (run) =>
            `${run.namespace}: ${run.writeIops.toFixed(0)} writes/s, ${run.readIops.toFixed(0)} reads/s`,
        )
        .join('; ') || 'none',
    ],
    ...report.flaps.map((flap, index): [string, string] => [
      `outage ${index + 1}`,
      `link down ${seconds(flap.downMs)}, I/O again ${seconds(flap.stallAfterUpMs)} after link-up${flap.hostConnectInFlight ? ', which met the host in a connect of its own' : ''}`,
    ]),
    ['namespace added live', report.namespaceAddedLive ? 'seen by the host' : 'NOT SEEN'],
    ['host I/O errors', String(sum(report.fio.map((run) => run.ioErrors)))],
    ['verification errors', String(sum(report.fio.map((run) => run.verifyErrors)))],
    ['dataplane restarts', String(report.dataplaneRestarts)],
    ...report.steps.map((step): [string, string] => [
      `  ${step.name}`,
      `${step.seconds.toFixed(1)} s${step.ok ? '' : '  FAILED'}`,
    ]),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}
