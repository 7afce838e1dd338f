/** How a guest's clock differs from this machine's. */
import { type GuestShell, mustExec } from '../guest-shell.ts';

const PROBES = 6;

/**
 * Milliseconds to add to this machine's clock to get the guest's. The answer that came back fastest counts: its
 * error is at most half of its round trip.
 */
export async function guestClockOffset(shell: GuestShell, guest: string): Promise<number> {
  let best = { roundTripMs: Number.POSITIVE_INFINITY, offsetMs: 0 };
  for (let probe = 0; probe < PROBES; probe += 1) {
    const sentAt = Date.now();
    const text = await mustExec(shell, guest, ['date', '+%s%3N'], { timeoutSeconds: 20 });
    const roundTripMs = Date.now() - sentAt;
    if (roundTripMs < best.roundTripMs) {
      best = { roundTripMs, offsetMs: Number(text.trim()) - (sentAt + roundTripMs / 2) };
    }
  }
  return best.offsetMs;
}
