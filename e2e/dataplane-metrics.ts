/** The dataplane's metrics, fetched on its node and read as Prometheus would. */
import { z } from 'zod';
import { METRICS_PORT_ANNOTATION } from '../operator/build/daemon-set.ts';
import { type GuestShell, mustExec } from './guest-shell.ts';
import type { MainPath } from './main-path.ts';

/** One scrape. */
export interface Scrape {
  /** Sum of all series of a metric whose labels include these. 0 only if such series exist; throws if there are none. */
  sum(name: string, labels: Readonly<Record<string, string>>): number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;

/** Reads Prometheus' text format. */
export function parseMetrics(text: string): Scrape {
  const series = text.split('\n').flatMap((line) => {
    const match = LINE.exec(line);
    if (match === null || line.startsWith('#')) return [];
    const labels = new Map(
      [...(match[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((pair) => [
        pair[1] ?? '',
        pair[2] ?? '',
      ]),
    );
    return [{ name: match[1] ?? '', labels, value: Number(match[3]) }];
  });
  return {
    sum: (name, labels) => {
      const found = series.filter(
        (one) =>
          one.name === name && Object.entries(labels).every(([key, value]) => one.labels.get(key) === value),
      );
      if (found.length === 0) throw new Error(`no series ${name} ${JSON.stringify(labels)}`);
      return found.reduce((sum, one) => sum + one.value, 0);
    },
  };
}

/** Scrapes a dataplane on the guest it runs on. */
export async function scrapeInGuest(shell: GuestShell, guest: string, port: number): Promise<Scrape> {
  // The guest has no curl; bash speaks TCP.
  const script =
    'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "GET /metrics HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n" >&3 && cat <&3';
  return parseMetrics(
    await mustExec(shell, guest, ['bash', '-c', script, 'bash', String(port)], { timeoutSeconds: 30 }),
  );
}

const daemonSetListSchema = z.object({
  items: z.tuple([
    z.object({
      metadata: z.object({ annotations: z.object({ [METRICS_PORT_ANNOTATION]: z.coerce.number() }) }),
    }),
  ]),
});

/** Scrapes the applied target's dataplane on a node. */
export async function scrapeTarget(
  { cluster, shell, target }: Pick<MainPath, 'cluster' | 'shell' | 'target'>,
  node: string,
): Promise<Scrape> {
  const list = daemonSetListSchema.parse(
    await cluster.get(['daemonsets', '-n', target.namespace, '-l', `weir.dev/target=${target.name}`]),
  );
  return scrapeInGuest(shell, node, list.items[0].metadata.annotations[METRICS_PORT_ANNOTATION]);
}
