import {
  Histogram,
  type HistogramConfiguration,
  type MetricObjectWithValues,
  type MetricValueWithName,
} from 'prom-client';
import type { DurationHistogram } from '../core/stats.ts';

type Labels = Record<string, string>;

/** A histogram whose counts are kept elsewhere, by the core's pollers, and only shown here. */
export class ExternalHistogram extends Histogram {
  /** Brings name, help and type; never observes anything. */
  readonly #description: Histogram;
  #series: { labels: Labels; histogram: DurationHistogram }[] = [];

  constructor(configuration: HistogramConfiguration<string>) {
    super(configuration);
    this.#description = new Histogram({ ...configuration, registers: [] });
  }

  /** Replaces everything that is shown. */
  set(series: { labels: Labels; histogram: DurationHistogram }[]): void {
    this.#series = series;
  }

  /** What the registry calls for the text format, and the base class for every other. */
  async getForPromString(): Promise<MetricObjectWithValues<MetricValueWithName<string>>> {
    const base = await this.#description.get();
    return { ...base, values: this.#series.flatMap((one) => samples(base.name, one)) };
  }

  override get(): Promise<MetricObjectWithValues<MetricValueWithName<string>>> {
    return this.getForPromString();
  }
}

function samples(
  name: string,
  { labels, histogram }: { labels: Labels; histogram: DurationHistogram },
): MetricValueWithName<string>[] {
  let cumulative = 0;
  const buckets = histogram.boundsSeconds.map((bound, index) => {
    cumulative += histogram.counts[index] ?? 0;
    return { metricName: `${name}_bucket`, labels: { ...labels, le: String(bound) }, value: cumulative };
  });
  return [
    ...buckets,
    { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: histogram.count },
    { metricName: `${name}_sum`, labels, value: histogram.sumSeconds },
    { metricName: `${name}_count`, labels, value: histogram.count },
  ];
}
