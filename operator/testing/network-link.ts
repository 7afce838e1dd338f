/** A network between a client and a server that tests can cut: a TCP proxy on loopback. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** One direction of a link. */
export type Direction = 'toServer' | 'toClient';

/** What was sent and has not arrived. */
interface Pipe {
  readonly to: Socket;
  held: Buffer[];
  hasEnded: boolean;
}

/**
 * The link. What is sent while a direction is cut is kept, as the buffers of machines and switches do, and delivered
 * when it is whole again, unless the sender has reset the connection meanwhile.
 */
export class NetworkLink {
  readonly #server: Server;
  readonly #pipes: Record<Direction, Set<Pipe>> = { toServer: new Set(), toClient: new Set() };
  readonly #isCut: Record<Direction, boolean> = { toServer: false, toClient: false };

  readonly #delayed: Record<Direction, number> = { toServer: 0, toClient: 0 };

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens on a free port of loopback and leads to another one. */
  static async to(serverPort: number): Promise<NetworkLink> {
    const server = createServer({ allowHalfOpen: true });
    const link = new NetworkLink(server);
    server.on('connection', (client) => link.#join(client, serverPort));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return link;
  }

  /** Port for clients. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Cuts one direction, or both. */
  cut(...directions: Direction[]): void {
    for (const direction of directions.length === 0 ? (['toServer', 'toClient'] as const) : directions) {
      this.#isCut[direction] = true;
    }
  }

  /** Makes the link whole: what was held arrives. */
  heal(): void {
    for (const direction of ['toServer', 'toClient'] as const) {
      this.#isCut[direction] = false;
      for (const pipe of this.#pipes[direction]) this.#deliver(pipe);
    }
  }

  /** Bytes that could not arrive at once, since the link was made. */
  delayed(direction: Direction): number {
    return this.#delayed[direction];
  }

  /** Resets every connection, as a router that was restarted does. */
  resetConnections(): void {
    for (const pipes of Object.values(this.#pipes)) for (const { to } of pipes) to.resetAndDestroy();
  }

  /** Ends the link. */
  async stop(): Promise<void> {
    this.resetConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(client: Socket, serverPort: number): void {
    const server = connect({ port: serverPort, host: '127.0.0.1', allowHalfOpen: true });
    this.#carry(client, server, 'toServer');
    this.#carry(server, client, 'toClient');
  }

  #carry(from: Socket, to: Socket, direction: Direction): void {
    const pipe: Pipe = { to, held: [], hasEnded: false };
    this.#pipes[direction].add(pipe);
    const deliver = () => {
      if (!this.#isCut[direction]) this.#deliver(pipe);
    };
    from.on('data', (bytes) => {
      pipe.held.push(bytes);
      if (this.#isCut[direction]) this.#delayed[direction] += bytes.length;
      deliver();
    });
    from.on('end', () => {
      pipe.hasEnded = true;
      deliver();
    });
    // A reset overtakes nothing: the sender's machine has thrown away what had not arrived.
    from.on('error', () => {
      pipe.held = [];
      to.destroy();
    });
    to.once('close', () => {
      this.#pipes[direction].delete(pipe);
      from.destroy();
    });
  }

  #deliver(pipe: Pipe): void {
    for (const bytes of pipe.held.splice(0)) pipe.to.write(bytes);
    if (pipe.hasEnded) pipe.to.end();
  }
}
