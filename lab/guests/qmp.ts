import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { LabError } from '../errors.ts';

const ANSWER_TIMEOUT_MS = 10_000;

/** Sends one command to QEMU's machine protocol and returns its answer. */
export function qmp(
  socketPath: string,
  execute: string,
  args: Record<string, unknown> = {},
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const finish = (settle: () => void): void => {
      socket.destroy();
      settle();
    };
    const fail = (message: string): void =>
      finish(() => reject(new LabError('GuestFailed', `QEMU refused ${execute}: ${message}`)));
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => fail('no answer'));
    socket.on('error', (error) => fail(error.message));
    socket.on('close', () => fail('the connection ended'));
    let answers = 0;
    createInterface({ input: socket }).on('line', (line) => {
      const message = JSON.parse(line) as Record<string, unknown>;
      if ('QMP' in message) {
        socket.write(`${JSON.stringify({ execute: 'qmp_capabilities' })}\n`);
        socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
      } else if ('error' in message) {
        fail(JSON.stringify(message['error']));
      } else if ('return' in message) {
        answers += 1;
        // The first answers the negotiation of capabilities.
        if (answers === 2) {
          finish(() => resolve(message['return']));
        }
      }
    });
  });
}
