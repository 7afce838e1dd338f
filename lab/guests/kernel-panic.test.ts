import { expect, test } from 'vitest';
import { kernelPanic } from './kernel-panic.ts';

const CONSOLE_OF_A_PANIC = `weir-lab: 12.69 s: network up
[   17.906642] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI
[   17.907030] CPU: 1 UID: 0 PID: 183 Comm: agent Not tainted 6.12.117+deb13-amd64 #1  Debian 6.12.117-1\r
[   17.907308] RIP: 0010:ip_local_deliver+0x5a/0x100\r
[   17.908256] Call Trace:\r
[   17.910414] RIP: 0033:0x40a84e\r
[   17.911794] Kernel panic - not syncing: Fatal exception in interrupt\r
`;

test('a panic is told with its cause and place', () => {
  expect(kernelPanic(CONSOLE_OF_A_PANIC)).toBe(
    'Fatal exception in interrupt, Oops: int3: 0000 [#1] PREEMPT SMP NOPTI, in ip_local_deliver+0x5a/0x100',
  );
});

test('a kernel that gives up without an oops is told, too', () => {
  expect(kernelPanic('[    1.0] Kernel panic - not syncing: No working init found.\r\n')).toBe(
    'No working init found.',
  );
});

test('a console without a panic tells nothing, an oops that was survived included', () => {
  expect(kernelPanic('weir-lab: 16.98 s: ready\n')).toBeUndefined();
  expect(kernelPanic('[   17.9] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n')).toBeUndefined();
});
