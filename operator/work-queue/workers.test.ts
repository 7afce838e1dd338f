import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { WorkQueue } from './work-queue.ts';
import { runWorkers, type WorkResult } from './workers.ts';

const logger = pino({ level: 'silent' });

describe('workers', () => {
  it('go on with other keys when the work on one fails, and come back to it', async () => {
    const queue = new WorkQueue(undefined, { baseMilliseconds: 1, maxMilliseconds: 1 });
    const worked: string[] = [];
    const results: WorkResult[] = [];
    for (const key of ['bad', 'good']) queue.add(key);
    await runWorkers(
      queue,
      async (key) => {
        worked.push(key);
        if (key === 'bad' && worked.filter((one) => one === 'bad').length === 1)
          throw new Error('cannot be read');
        if (worked.length === 3) queue.shutDown();
        return undefined;
      },
      { count: 1, logger, observer: { began: () => undefined, ended: (result) => results.push(result) } },
    );
    expect(worked).toEqual(['bad', 'good', 'bad']);
    expect(results).toEqual(['error', 'success', 'success']);
  });

  it('look again at a key after the time that its work asks for', async () => {
    const queue = new WorkQueue();
    let passes = 0;
    queue.add('a');
    await runWorkers(
      queue,
      async () => {
        passes += 1;
        if (passes === 2) queue.shutDown();
        return 1;
      },
      { count: 2, logger, observer: { began: () => undefined, ended: () => undefined } },
    );
    expect(passes).toBe(2);
  });
});
