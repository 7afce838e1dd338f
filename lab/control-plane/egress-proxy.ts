/**
 * The API server's way into guests: a proxy (HTTP CONNECT on a Unix socket) that opens each connection from
 * inside the guest that owns the address. So `kubectl logs`, `exec` and `port-forward` and the API server's
 * proxy to pods work although nothing on the machine has a route to a guest.
 *
 * Run as a program: `egress-proxy.ts SOCKET GUESTS_DIRECTORY`.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { dialThroughGuest } from '../guests/agent-client.ts';
import { Guest } from '../guests/guest.ts';
import { planGuest } from '../guests/plan.ts';

const [socketPath = '', guestsDirectory = ''] = process.argv.slice(2);

/** The guest that owns a node's or a pod's address. */
function guestOf(host: string): Guest | undefined {
  const names = existsSync(guestsDirectory) ? readdirSync(guestsDirectory) : [];
  return names
    .map((name) => new Guest(planGuest(name), join(guestsDirectory, name)))
    .find(({ plan }) => {
      const podPrefix = plan.podRange.replace(/\d+\/24$/, '');
      return host === plan.managementAddress || host === plan.rdmaAddress || host.startsWith(podPrefix);
    });
}

async function connect(request: IncomingMessage, client: Duplex): Promise<void> {
  const target = request.url ?? '';
  const guest = guestOf(target.replace(/:\d+$/, ''));
  if (guest === undefined) {
    client.end('HTTP/1.1 502 No guest has this address\r\n\r\n');
    return;
  }
  try {
    const upstream = await dialThroughGuest(guest.address, target);
    client.write('HTTP/1.1 200 OK\r\n\r\n');
    upstream.on('error', () => client.destroy());
    client.on('error', () => upstream.destroy());
    client.pipe(upstream).pipe(client);
  } catch {
    client.end('HTTP/1.1 502 Cannot be reached\r\n\r\n');
  }
}

rmSync(socketPath, { force: true });
const server = createServer((_request, response) => response.writeHead(405).end());
server.on('connect', (request: IncomingMessage, client: Duplex) => {
  client.on('error', () => client.destroy());
  void connect(request, client);
});
process.umask(0o077);
server.listen(socketPath);
