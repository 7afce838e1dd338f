import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { withLock } from './lock.ts';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'weir-lab-lock-'));
  path = join(directory, 'lock');
});

afterEach(() => rmSync(directory, { recursive: true }));

test('the second waits until the first has finished', async () => {
  const order: string[] = [];
  const first = withLock(path, 10, async () => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    order.push('first');
  });
  await withLock(path, 10, async () => {
    order.push('second');
  });
  await first;
  expect(order).toEqual(['first', 'second']);
});

test('a lock whose holder has died is taken over', async () => {
  // Above the largest process id that Linux gives out.
  writeFileSync(path, '4194305');
  await expect(withLock(path, 1, async () => 'held')).resolves.toBe('held');
});

test('a lock that is never released is an error, not a hang', async () => {
  writeFileSync(path, String(process.pid));
  await expect(withLock(path, 0, async () => undefined)).rejects.toMatchObject({ code: 'LockTimedOut' });
});
