import { connect, type Socket } from 'node:net';
import { LabError } from '../errors.ts';

/** How the agent of a guest is reached from the machine. */
export interface AgentAddress {
  /** Name of the guest, for messages. */
  guest: string;
  /** Port on the machine's loopback address. */
  port: number;
  token: string;
}

/** What a command left behind. */
export interface GuestResult {
  /** 128 plus the signal if a signal ended it; 127 if it could not be started. */
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** Frame types of the agent; the same as in `agent/frame.go`. */
const FRAME = { stdin: 0, stdout: 1, stderr: 2, exit: 3, signal: 4 } as const;
const FRAME_HEADER_BYTES = 5;
const FRAME_PAYLOAD_BYTES_MAX = 256 * 1024;
const CONNECT_TIMEOUT_MS = 10_000;

/** A command that runs in a guest. It is killed when this process ends. */
export class GuestProcess {
  /** Resolves when the command has ended; rejects if the guest went away. */
  readonly exited: Promise<number>;
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  #settle: { resolve: (exitCode: number) => void; reject: (error: Error) => void } | undefined;

  constructor(
    address: AgentAddress,
    argv: readonly string[],
    output: { stdout: (chunk: Buffer) => void; stderr: (chunk: Buffer) => void },
  ) {
    const socket = openAgent(address, { argv });
    this.#socket = socket;
    this.exited = new Promise<number>((resolve, reject) => {
      this.#settle = { resolve, reject };
      const lost = (why: string): void => {
        reject(new LabError('GuestUnreachable', `${address.guest}: ${why} while running ${argv.join(' ')}`));
      };
      socket.on('data', (chunk) => {
        this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
        this.#takeFrames(output);
      });
      socket.on('error', (error) => lost(error.message));
      socket.on('close', () => lost('the connection ended'));
    });
    // Whoever does not wait for the end must not be ended by its failure.
    this.exited.catch(() => {});
  }

  /** Writes to the command's standard input; resolves when there is room for more. */
  write(data: Buffer): Promise<void> {
    let room = true;
    for (let offset = 0; offset < data.length; offset += FRAME_PAYLOAD_BYTES_MAX) {
      room = this.#send(FRAME.stdin, data.subarray(offset, offset + FRAME_PAYLOAD_BYTES_MAX));
    }
    if (room || this.#socket.destroyed) {
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const done = (): void => {
        this.#socket.off('drain', done);
        this.#socket.off('close', done);
        resolve();
      };
      this.#socket.on('drain', done);
      this.#socket.on('close', done);
    });
  }

  /** Ends the command's standard input. */
  endInput(): void {
    this.#send(FRAME.stdin, Buffer.alloc(0));
  }

  /** Sends a signal to the command and everything it started. */
  signal(number: number): void {
    this.#send(FRAME.signal, Buffer.of(number));
  }

  /** Kills the command and everything it started. */
  kill(): void {
    this.#socket.destroy();
  }

  #send(kind: number, payload: Buffer): boolean {
    const header = Buffer.alloc(FRAME_HEADER_BYTES);
    header.writeUInt8(kind, 0);
    header.writeUInt32BE(payload.length, 1);
    this.#socket.write(header);
    return this.#socket.write(payload);
  }

  #takeFrames(output: { stdout: (chunk: Buffer) => void; stderr: (chunk: Buffer) => void }): void {
    let rest = this.#received;
    while (rest.length >= FRAME_HEADER_BYTES) {
      const end = FRAME_HEADER_BYTES + rest.readUInt32BE(1);
      if (rest.length < end) {
        break;
      }
      const kind = rest.readUInt8(0);
      const payload = rest.subarray(FRAME_HEADER_BYTES, end);
      rest = rest.subarray(end);
      if (kind === FRAME.stdout) {
        output.stdout(payload);
      } else if (kind === FRAME.stderr) {
        output.stderr(payload);
      } else if (kind === FRAME.exit) {
        this.#finish(payload, output.stderr);
      }
    }
    this.#received = rest;
  }

  #finish(payload: Buffer, stderr: (chunk: Buffer) => void): void {
    const report = JSON.parse(payload.toString()) as { exitCode: number; error?: string };
    if (report.error !== undefined) {
      stderr(Buffer.from(`${report.error}\n`));
    }
    this.#settle?.resolve(report.exitCode);
    this.#socket.destroy();
  }
}

/** Runs a command in a guest to its end. Throws when the limit is over or the guest goes away. */
export async function runInGuest(
  address: AgentAddress,
  argv: readonly string[],
  options: { timeoutSeconds: number; input?: string | Buffer },
): Promise<GuestResult> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const command = new GuestProcess(address, argv, {
    stdout: (chunk) => stdout.push(chunk),
    stderr: (chunk) => stderr.push(chunk),
  });
  if (options.input !== undefined) {
    await command.write(Buffer.from(options.input));
  }
  command.endInput();
  const exitCode = await withinLimit(command, address, argv, options.timeoutSeconds);
  return { exitCode, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
}

async function withinLimit(
  command: GuestProcess,
  address: AgentAddress,
  argv: readonly string[],
  timeoutSeconds: number,
): Promise<number> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      const message = `${address.guest}: ${argv.join(' ')} did not end within ${timeoutSeconds} s`;
      reject(new LabError('TimedOut', message));
      command.kill();
    }, timeoutSeconds * 1000);
  });
  try {
    return await Promise.race([command.exited, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Opens a connection to an address that only the guest can reach. Resolves once it stands, paused; bytes that came
 * with the answer stay readable.
 */
export function dialThroughGuest(address: AgentAddress, target: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = openAgent(address, { dial: target });
    let answer = Buffer.alloc(0);
    const fail = (why: string): void => {
      socket.destroy();
      reject(new LabError('GuestUnreachable', `${address.guest}: cannot reach ${target}: ${why}`));
    };
    const onError = (error: Error): void => fail(error.message);
    const onClose = (): void => fail('the connection ended');
    const onData = (chunk: Buffer): void => {
      answer = Buffer.concat([answer, chunk]);
      const end = answer.indexOf('\n');
      if (end < 0) {
        return;
      }
      socket.off('data', onData);
      socket.off('error', onError);
      socket.off('close', onClose);
      const report = JSON.parse(answer.subarray(0, end).toString()) as { error?: string };
      if (report.error !== undefined) {
        fail(report.error);
        return;
      }
      socket.pause();
      socket.unshift(answer.subarray(end + 1));
      resolve(socket);
    };
    socket.on('data', onData);
    socket.on('error', onError);
    socket.on('close', onClose);
  });
}

function openAgent(address: AgentAddress, request: { argv: readonly string[] } | { dial: string }): Socket {
  const socket = connect({ host: '127.0.0.1', port: address.port, noDelay: true });
  socket.setTimeout(CONNECT_TIMEOUT_MS, () => socket.destroy());
  socket.once('connect', () => socket.setTimeout(0));
  socket.write(`${JSON.stringify({ token: address.token, ...request })}\n`);
  return socket;
}
