import { describe, expect, it } from 'vitest';
import type { GuestShell } from '../guest-shell.ts';
import { guestClockOffset } from './guest-clock.ts';

describe('guestClockOffset', () => {
  it('finds by how much a guest is ahead', async () => {
    const shell: GuestShell = {
      exec: async () => ({ exitCode: 0, stdout: `${Date.now() + 5000}\n`, stderr: '' }),
      spawn: () => {
        throw new Error('not asked for');
      },
    };
    expect(Math.abs((await guestClockOffset(shell, 'node-a')) - 5000)).toBeLessThan(50);
  });
});
