import { describe, expect, it } from 'vitest';
import { connectInFlightAt, countIoErrors, countReconnects, toldAfter } from './host-log.ts';

const at = (atMs: number, text: string) => ({ atMs, text: `<6>[   12.345678] ${text}` });

describe('connectInFlightAt', () => {
  const waiting = at(1000, 'nvme nvme0: Reconnecting in 1 seconds...');

  it('holds from the end of the wait until the attempt is said to have ended', () => {
    const lines = [waiting, at(5000, 'nvme nvme0: Failed reconnect attempt 1/600')];
    expect(connectInFlightAt(lines, 900)).toBe(false);
    expect(connectInFlightAt(lines, 1500)).toBe(false);
    expect(connectInFlightAt(lines, 2000)).toBe(true);
    expect(connectInFlightAt(lines, 4900)).toBe(true);
    expect(connectInFlightAt(lines, 5000)).toBe(false);
  });

  it('holds again in the next attempt', () => {
    const lines = [
      waiting,
      at(5000, 'nvme nvme0: Failed reconnect attempt 1/600'),
      at(5001, 'nvme nvme0: Reconnecting in 1 seconds...'),
    ];
    expect(connectInFlightAt(lines, 5500)).toBe(false);
    expect(connectInFlightAt(lines, 6500)).toBe(true);
  });

  it('does not hold once the host is connected', () => {
    const lines = [waiting, at(2100, 'nvme nvme0: Successfully reconnected (1 attempts)')];
    expect(connectInFlightAt(lines, 3000)).toBe(false);
  });

  it('does not hold for a host that never lost its connection', () => {
    expect(connectInFlightAt([at(1, 'nvme nvme0: creating 2 I/O queues.')], 9000)).toBe(false);
  });
});

describe('countReconnects', () => {
  it('counts connections that were made anew', () => {
    expect(
      countReconnects([
        at(1, 'nvme nvme0: Reconnecting in 1 seconds...'),
        at(2, 'nvme nvme0: Successfully reconnected (1 attempts)'),
        at(3, 'nvme nvme1: Successfully reconnected (3 attempts)'),
      ]),
    ).toBe(2);
  });
});

describe('countIoErrors', () => {
  const lines = [
    at(1, 'I/O error, dev nvme0n1, sector 8 op 0x1:(WRITE) flags 0x8800 phys_seg 1 prio class 2'),
    at(2, 'Buffer I/O error on dev nvme0n1, logical block 1, async page read'),
    at(3, 'I/O error, dev nvme0n10, sector 8 op 0x1:(WRITE)'),
    at(4, 'nvme0c0n1: I/O Cmd(0x1) @ LBA 8, 8 blocks, I/O Error (sct 0x3 / sc 0x71)'),
    at(5, 'I/O error, dev nvme0c0n1, sector 8 op 0x1:(WRITE)'),
  ];

  it('counts what reached a user of the disk, not what was retried on another path', () => {
    expect(countIoErrors(lines, 'nvme0n1')).toBe(2);
  });
});

describe('toldAfter', () => {
  const lines = [
    at(100, 'nvme nvme0: starting error recovery'),
    at(900, 'nvme nvme0: starting error recovery'),
  ];

  it('is the time until the host knew of its lost connection', () => {
    expect(toldAfter(lines, 600)).toBe(300);
  });

  it('says nothing of a host that knew before', () => {
    expect(toldAfter(lines, 1000)).toBeUndefined();
  });
});
