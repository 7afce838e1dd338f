/** Limits, timeouts and polling: the settings that a user's object and a node's share. */
import { z } from 'zod';
import { withRule } from './rule.ts';

/** Most poller threads of a dataplane: a thread a core, and larger machines run several targets. */
const POLLER_CORES_MAX = 64;

const IO_SIZES_BYTES = [4096, 8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576] as const;

/** Queue limits that hosts are told when they connect. */
export const queuesSchema = z
  .strictObject({
    maxIOQueues: z.int().min(1).max(128).default(16).describe('Most I/O queues of one host connection.'),
    queueDepth: z.int().min(16).max(1024).default(128).describe('Entries of each I/O queue.'),
    inCapsuleDataSizeBytes: z
      .int()
      .min(0)
      .max(16384)
      .multipleOf(16, { error: 'must be a multiple of 16' })
      .default(4096)
      .describe('Write data that travels inside the command capsule, saving a round trip. A multiple of 16.'),
    maxIOSizeBytes: withRule(
      z.int().min(4096).max(1048576),
      {
        rule: `self in [${IO_SIZES_BYTES.join(', ')}]`,
        message: 'must be a power of two from 4096 to 1048576',
      },
      (size) => IO_SIZES_BYTES.some((allowed) => allowed === size),
    )
      .default(131072)
      .describe('Largest single transfer (MDTS): a power of two from 4 KiB to 1 MiB.'),
  })
  .prefault({})
  .describe('Queue limits that hosts are told when they connect.');

/** Keep-alive limits. */
export const keepAliveSchema = z
  .strictObject({
    minimumSeconds: z
      .int()
      .min(1)
      .max(300)
      .default(5)
      .describe('Shortest keep-alive timeout granted to a host; a shorter one is raised to this.'),
  })
  .prefault({})
  .describe('Detection of hosts that vanished.');

/** What happens when a link goes down and comes back. */
export const linkSchema = z
  .strictObject({
    holdMilliseconds: z
      .int()
      .min(0)
      .max(10000)
      .default(500)
      .describe('A shorter flap is ridden through without dropping a connection.'),
    drainTimeoutSeconds: z
      .int()
      .min(1)
      .max(300)
      .default(15)
      .describe('Longest wait for in-flight I/O when a port or the whole dataplane drains.'),
    upStabilizationMilliseconds: z
      .int()
      .min(0)
      .max(60000)
      .default(200)
      .describe(
        'How long a link must be up before the port serves again; up to four times as long where it keeps coming and going.',
      ),
    memoryRegistration: z
      .strictObject({
        maxBackoffSeconds: z
          .int()
          .min(1)
          .max(300)
          .default(3)
          .describe(
            'Longest pause between two attempts to register memory with the device. It is also how late the port may notice ' +
              'that the cause has gone: with the default it serves within 5 s of that.',
          ),
        allowDegraded: z
          .boolean()
          .default(true)
          .describe('Serve with fewer buffers when only part of the memory could be registered.'),
      })
      .prefault({})
      .describe('Registration of memory with the RDMA device after a link came up.'),
    recreateSoftDevice: z
      .enum(['Never', 'WhenManagementQueuePairDead'])
      .default('Never')
      .describe(
        'Whether Weir deletes and adds a soft RDMA device (rxe) when its management queue pair is dead, which nothing else cures. ' +
          'The dataplane then leaves with exit code 76, and its next start re-creates the device, at most three times in a row. ' +
          'Its pod gets the capability NET_ADMIN for it.',
      ),
  })
  .prefault({})
  .describe('What happens when a link goes down and comes back.');

/** How the dataplane waits for work. */
export const pollingSchema = z
  .strictObject({
    mode: z
      .enum(['Busy', 'Adaptive', 'Event'])
      .default('Adaptive')
      .describe(
        'Busy: lowest latency, one CPU per core always. Adaptive: polls under load, sleeps when idle. Event: always sleeps.',
      ),
    cores: z.int().min(1).max(POLLER_CORES_MAX).default(1).describe('Poller threads.'),
  })
  .prefault({})
  .describe('How the dataplane waits for work.');
