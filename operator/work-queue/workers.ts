/** Runs the work of a queue. A failure of one key, of whatever kind, never reaches another. */
import type { Logger } from 'pino';
import { ApiError } from '../kubernetes/api-error.ts';
import type { WorkQueue } from './work-queue.ts';

/** What became of one piece of work. */
export type WorkResult = 'success' | 'requeue_after' | 'error';

/** Told about every piece of work; metrics listen. */
export interface WorkObserver {
  began(): void;
  ended(result: WorkResult, seconds: number): void;
}

/** Works on a key; returns after how many milliseconds to come back to it, if at all. */
export type Work = (key: string) => Promise<number | undefined>;

async function workOn(key: string, queue: WorkQueue, work: Work, logger: Logger): Promise<WorkResult> {
  try {
    const again = await work(key);
    queue.forget(key);
    if (again === undefined) return 'success';
    queue.addAfter(key, again);
    return 'requeue_after';
  } catch (error) {
    logger.error({ target: key, err: error }, 'reconcile failed; it will be tried again');
    queue.retry(key, error instanceof ApiError ? (error.retryAfterSeconds ?? 0) * 1000 : 0);
    return 'error';
  }
}

/** Works with `count` keys at a time until the queue is shut. Never rejects. */
export async function runWorkers(
  queue: WorkQueue,
  work: Work,
  options: { readonly count: number; readonly logger: Logger; readonly observer: WorkObserver },
): Promise<void> {
  const { count, logger, observer } = options;
  const worker = async (): Promise<void> => {
    for (let key = await queue.take(); key !== undefined; key = await queue.take()) {
      const started = performance.now();
      observer.began();
      const result = await workOn(key, queue, work, logger);
      queue.done(key);
      observer.ended(result, (performance.now() - started) / 1000);
    }
  };
  await Promise.all(Array.from({ length: count }, worker));
}
