/** What the end-to-end code asks of a guest; the lab provides it, unit tests give a script. */

/** Outcome of a command in a guest. */
export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that goes on running in a guest. */
export interface RunningCommand {
  /** Ends when the command ends. */
  readonly finished: Promise<CommandResult>;
  /** Asks the command to end by itself, as Ctrl-C does (SIGINT). */
  interrupt(): void;
  /** Kills the command and everything it started. */
  kill(): Promise<void>;
}

/** Runs commands in guests. Every call has a time limit. */
export interface GuestShell {
  exec(
    guest: string,
    argv: readonly string[],
    options?: { timeoutSeconds?: number; input?: string },
  ): Promise<CommandResult>;
  spawn(
    guest: string,
    argv: readonly string[],
    options?: { onLine?: (line: string) => void; timeoutSeconds?: number },
  ): RunningCommand;
}

/** A command in a guest failed. The message holds the command and what it printed, never a stack. */
export class GuestCommandError extends Error {
  readonly code = 'GUEST_COMMAND_FAILED';

  constructor(guest: string, argv: readonly string[], result: CommandResult) {
    const said = `${result.stdout}\n${result.stderr}`.trim().split('\n').slice(-12).join('\n');
    super(`${guest}: '${argv.join(' ')}' ended with ${result.exitCode}:\n${said}`);
    this.name = 'GuestCommandError';
  }
}

/** Runs a command that must succeed; its standard output. */
export async function mustExec(
  shell: GuestShell,
  guest: string,
  argv: readonly string[],
  options: { timeoutSeconds?: number; input?: string } = {},
): Promise<string> {
  const result = await shell.exec(guest, argv, options);
  if (result.exitCode !== 0) throw new GuestCommandError(guest, argv, result);
  return result.stdout;
}
