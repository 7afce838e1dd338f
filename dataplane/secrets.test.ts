import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Dataplane } from './dataplane.ts';
import { watchSecrets } from './secrets.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'weir-secrets-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

it('has the keys read anew when one changes, also in a Secret that came later', async () => {
  const reapply = vi.fn();
  mkdirSync(join(directory, 'host-a'));
  const watch = watchSecrets(directory, { reapply } as unknown as Dataplane, pino({ level: 'silent' }));
  try {
    writeFileSync(join(directory, 'host-a', 'hostKey'), 'a');
    await vi.waitFor(() => expect(reapply).toHaveBeenCalledTimes(1), 10_000);
    mkdirSync(join(directory, 'host-b'));
    await vi.waitFor(() => expect(reapply).toHaveBeenCalledTimes(2), 10_000);
    writeFileSync(join(directory, 'host-b', 'hostKey'), 'b');
    await vi.waitFor(() => expect(reapply).toHaveBeenCalledTimes(3), 10_000);
  } finally {
    watch.close();
  }
});
