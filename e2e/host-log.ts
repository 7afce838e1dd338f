/** The host's kernel log while its link flaps: what it reported to its users, and when it was connecting. */
import type { GuestShell, RunningCommand } from './guest-shell.ts';

/** One line of the log. */
export interface HostLogLine {
  /** When it was seen, on this machine's clock. */
  readonly atMs: number;
  readonly text: string;
}

/** Follows the log of a guest's kernel from now on. */
export class HostLog {
  readonly lines: HostLogLine[] = [];
  readonly #command: RunningCommand;

  constructor(shell: GuestShell, guest: string, limitSeconds: number) {
    this.#command = shell.spawn(guest, ['dmesg', '--follow-new', '--raw'], {
      timeoutSeconds: limitSeconds,
      onLine: (text) => this.lines.push({ atMs: Date.now(), text }),
    });
    // It is always ended from outside, so how it ends says nothing.
    this.#command.finished.catch(() => undefined);
  }

  /** The lines seen in a span of time. */
  between(fromMs: number, toMs: number): HostLogLine[] {
    return this.lines.filter((line) => line.atMs >= fromMs && line.atMs < toMs);
  }

  async stop(): Promise<void> {
    await this.#command.kill();
  }
}

// What the kernel's nvme-rdma says (drivers/nvme/host/rdma.c): when it waits, and how an attempt ended.
const RECONNECT_WAIT = /nvme nvme\d+: Reconnecting in (\d+) seconds/;
const ATTEMPT_ENDED = /nvme nvme\d+: (?:Failed reconnect attempt|Successfully reconnected|Removing ctrl)/;
const CONNECTION_LOST = /nvme nvme\d+: starting error recovery/;
const RECONNECTED = /nvme nvme\d+: Successfully reconnected/;
/** An error that reached a user of the disk. Errors of one path, which multipath retries, name that path. */
const IO_ERROR = /(?:I\/O error, dev|Buffer I\/O error on dev) (nvme\d+n\d+)\b/;

/**
 * Whether the host had an attempt to connect under way at a moment: its wait before the attempt was over, and how
 * the attempt ended was not yet said.
 */
export function connectInFlightAt(lines: readonly HostLogLine[], atMs: number): boolean {
  let attemptSinceMs: number | undefined;
  for (const { atMs: seenMs, text } of lines) {
    if (seenMs > atMs) break;
    const wait = RECONNECT_WAIT.exec(text);
    if (wait !== null) attemptSinceMs = seenMs + Number(wait[1]) * 1000;
    else if (ATTEMPT_ENDED.test(text)) attemptSinceMs = undefined;
  }
  return attemptSinceMs !== undefined && attemptSinceMs <= atMs;
}

/** Connections that were made anew. */
export function countReconnects(lines: readonly HostLogLine[]): number {
  return lines.filter(({ text }) => RECONNECTED.test(text)).length;
}

/** I/O errors of a namespace that the block layer reported to its users. */
export function countIoErrors(lines: readonly HostLogLine[], device: string): number {
  return lines.filter(({ text }) => IO_ERROR.exec(text)?.[1] === device).length;
}

/** Milliseconds from a moment until the host knew that its connection was lost; `undefined` when it was not then. */
export function toldAfter(lines: readonly HostLogLine[], sinceMs: number): number | undefined {
  const told = lines.find(({ atMs, text }) => atMs >= sinceMs && CONNECTION_LOST.test(text));
  return told === undefined ? undefined : told.atMs - sinceMs;
}
