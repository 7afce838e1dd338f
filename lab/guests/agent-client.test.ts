import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { dialThroughGuest, runInGuest } from './agent-client.ts';

let server: Server | undefined;

afterEach(() => {
  server?.close();
});

/** An agent that does what the test says with each connection; resolves to its address. */
function agent(serve: (socket: Socket) => void): Promise<{ guest: string; port: number; token: string }> {
  return new Promise((resolve) => {
    server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => serve(socket));
    });
    server.listen(0, '127.0.0.1', () => {
      const address = server?.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      resolve({ guest: 'node-a', port, token: 'secret' });
    });
  });
}

function frame(kind: number, text: string): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt8(kind, 0);
  header.writeUInt32BE(Buffer.byteLength(text), 1);
  return Buffer.concat([header, Buffer.from(text)]);
}

test('output and exit code arrive whole, however the stream is cut', async () => {
  const stream = Buffer.concat([frame(1, 'out'), frame(2, 'err'), frame(3, '{"exitCode": 3}')]);
  const address = await agent((socket) => {
    const bytes = [...stream];
    const next = (): void => {
      const byte = bytes.shift();
      if (byte !== undefined) {
        socket.write(Buffer.of(byte), () => setImmediate(next));
      }
    };
    next();
  });
  const result = await runInGuest(address, ['true'], { timeoutSeconds: 10 });
  expect(result).toEqual({ exitCode: 3, stdout: 'out', stderr: 'err' });
});

test('a guest that goes away is an error, not an exit code', async () => {
  const address = await agent((socket) => socket.destroy());
  const result = runInGuest(address, ['true'], { timeoutSeconds: 10 });
  await expect(result).rejects.toMatchObject({ code: 'GuestUnreachable' });
});

test('a command that does not end is given up at its limit', async () => {
  const address = await agent(() => {});
  const result = runInGuest(address, ['sleep', 'infinity'], { timeoutSeconds: 0.2 });
  await expect(result).rejects.toMatchObject({ code: 'TimedOut' });
});

test('bytes that arrive with the answer to a dial are not lost', async () => {
  const address = await agent((socket) => socket.write('{}\nhello'));
  const connection = await dialThroughGuest(address, '10.244.1.2:80');
  const first = await new Promise<Buffer>((resolve) => {
    connection.once('data', resolve);
    connection.resume();
  });
  connection.destroy();
  expect(first.toString()).toBe('hello');
});

test('an address that the guest cannot reach is an error with its reason', async () => {
  const address = await agent((socket) => socket.write('{"error": "connection refused"}\n'));
  await expect(dialThroughGuest(address, '10.244.1.2:80')).rejects.toThrow('connection refused');
});
