/** What a target holds on its node: descriptors, memory, and objects of the RDMA stack. */
import { z } from 'zod';
import { type GuestShell, mustExec } from '../guest-shell.ts';
import type { ResourceCounts } from './report.ts';

/** Kinds of objects that `rdma resource show` lists, in the order in which the script prints them. */
const KINDS = ['qp', 'mr', 'cq', 'pd', 'cm_id'] as const;

// Prints, one a line: open descriptors but for established TCP connections (to the API server, from probes: these come
// and go by themselves), resident KiB, anonymous KiB of them, thread ids; then one JSON list for each kind, which begins
// a line. Objects carry the id of the thread that made them, so all threads of the process are asked for. Without a
// process the first four are empty. As few programs as can be: it runs after every flap of a thousand, on an emulated
// processor.
const SCRIPT = `
if [ -n "$1" ] && cd "/proc/$1/task" 2>/dev/null; then
  ls -l ../fd | awk '
    established { if ($4 == "01") left_out["socket:[" $10 "]"]; next }
    / -> / && !($NF in left_out) { count++ }
    END { print count + 0 }' established=1 ../net/tcp ../net/tcp6 established=0 -
  while read -r field value unit; do case $field in VmRSS: | RssAnon:) echo "$value" ;; esac; done < ../status
  echo *
else
  printf '\\n\\n\\n\\n'
fi
rdma -j -f -b - <<END
${KINDS.map((kind) => `resource show ${kind}`).join('\n')}
END`;

const objectSchema = z.looseObject({
  pid: z.number().optional(),
  comm: z.string().optional(),
  type: z.string().optional(),
  'poll-ctx': z.string().optional(),
  lqpn: z.number().optional(),
  state: z.string().optional(),
});
const objectsSchema = z.array(objectSchema);
/** An object as the RDMA stack lists it. */
export type RdmaObject = z.output<typeof objectSchema>;

/** Everything that one look at a node shows. */
export interface ResourceListing {
  readonly fds: number | undefined;
  readonly rssKiB: number | undefined;
  readonly anonymousKiB: number | undefined;
  readonly threads: ReadonlySet<number>;
  readonly objects: Readonly<Record<(typeof KINDS)[number], readonly RdmaObject[]>>;
}

/** Reads what the script printed. */
export function parseListing(text: string): ResourceListing {
  const [fds = '', rss = '', anonymous = '', threads = '', ...rest] = text.split('\n');
  const lists = rest
    .join('\n')
    .split(/^(?=\[)/m)
    .filter((list) => list.trim() !== '')
    .map((list) => objectsSchema.parse(JSON.parse(list)));
  if (lists.length !== KINDS.length) throw new Error(`${lists.length} lists of RDMA objects: ${text}`);
  const [qp = [], mr = [], cq = [], pd = [], cm_id = []] = lists;
  const number = (field: string): number | undefined =>
    field.trim() === '' ? undefined : Number.parseInt(field, 10);
  return {
    fds: number(fds),
    rssKiB: number(rss),
    anonymousKiB: number(anonymous),
    threads: new Set(
      threads
        .split(' ')
        .filter((id) => id !== '')
        .map(Number),
    ),
    objects: { qp, mr, cq, pd, cm_id },
  };
}

/** Looks at a node; `pid` names the target's process, if it is one. */
export async function listResources(
  shell: GuestShell,
  guest: string,
  pid: number | undefined,
): Promise<ResourceListing> {
  return parseListing(
    await mustExec(shell, guest, ['sh', '-c', SCRIPT, 'sh', pid === undefined ? '' : String(pid)], {
      timeoutSeconds: 60,
    }),
  );
}

/** What a process holds. */
export function countOfProcess({
  fds,
  rssKiB,
  anonymousKiB,
  threads,
  objects,
}: ResourceListing): ResourceCounts {
  const own = (list: readonly RdmaObject[]): number =>
    list.filter(({ pid }) => pid !== undefined && threads.has(pid)).length;
  return {
    fds: fds ?? null,
    qps: own(objects.qp),
    mrs: own(objects.mr),
    cqs: own(objects.cq),
    pds: own(objects.pd),
    cmIds: own(objects.cm_id),
    rssKiB: rssKiB ?? null,
    anonymousKiB: anonymousKiB ?? null,
  };
}

/** What the kernel's own target holds. Its completion queues come from a pool of the stack, marked by how it polls. */
export function countOfKernelTarget({ objects }: ResourceListing): ResourceCounts {
  const kernel = (list: readonly RdmaObject[]): RdmaObject[] => list.filter(({ pid }) => pid === undefined);
  const nvmet = (list: readonly RdmaObject[]): number =>
    kernel(list).filter(({ comm }) => comm === 'nvmet_rdma').length;
  return {
    fds: null,
    qps: kernel(objects.qp).filter(({ type }) => type === 'RC').length,
    mrs: nvmet(objects.mr),
    cqs: kernel(objects.cq).filter((queue) => queue['poll-ctx'] === 'SOFTIRQ').length,
    pds: nvmet(objects.pd),
    cmIds: nvmet(objects.cm_id),
    rssKiB: null,
    anonymousKiB: null,
  };
}

/** How much more `after` is than `before`. */
export function difference(after: ResourceCounts, before: ResourceCounts): ResourceCounts {
  const more = (a: number | null, b: number | null): number | null =>
    a === null || b === null ? null : a - b;
  return {
    fds: more(after.fds, before.fds),
    qps: after.qps - before.qps,
    mrs: after.mrs - before.mrs,
    cqs: after.cqs - before.cqs,
    pds: after.pds - before.pds,
    cmIds: after.cmIds - before.cmIds,
    rssKiB: more(after.rssKiB, before.rssKiB),
    anonymousKiB: more(after.anonymousKiB, before.anonymousKiB),
  };
}

/** Whether nothing is left over; memory is judged by its slope, not by two moments. */
export function isAtBaseline(more: ResourceCounts): boolean {
  return [more.fds, more.qps, more.mrs, more.cqs, more.pds, more.cmIds].every(
    (count) => count === null || count <= 0,
  );
}

/** Whether the device's management queue pair (GSI, number 1) can still send and receive. */
export function managementQueuePairLives({ objects }: ResourceListing): boolean {
  return objects.qp.some(({ type, state }) => type === 'GSI' && state === 'RTS');
}
