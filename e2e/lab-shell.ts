/** The lab's guests as a `GuestShell`. */
import { constants } from 'node:os';
import type { Lab } from '../lab/lab.ts';
import type { GuestShell, RunningCommand } from './guest-shell.ts';

/** Longest a spawned command may run when its caller names no limit. */
const SPAWN_LIMIT_SECONDS = 1800;

/** Commands in guests through the lab. */
export function labShell(lab: Lab): GuestShell {
  return {
    exec: (guest, argv, options) => lab.exec(guest, argv, options),
    spawn: (guest, argv, options) => spawnInLab(lab, guest, argv, options ?? {}),
  };
}

function spawnInLab(
  lab: Lab,
  guest: string,
  argv: readonly string[],
  options: { onLine?: (line: string) => void; timeoutSeconds?: number },
): RunningCommand {
  let stdout = '';
  let stderr = '';
  let rest = '';
  const takeLines = (text: string, onLine: (line: string) => void): void => {
    const lines = `${rest}${text}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  };
  const command = lab.spawn(guest, argv, {
    stdout: (chunk) => {
      // A caller that takes lines as they come does not want them kept as well: a sampler prints for minutes.
      if (options.onLine === undefined) stdout += chunk.toString();
      else takeLines(chunk.toString(), options.onLine);
    },
    stderr: (chunk) => {
      stderr += chunk.toString();
    },
  });
  command.endInput();
  const timer = setTimeout(() => command.kill(), (options.timeoutSeconds ?? SPAWN_LIMIT_SECONDS) * 1000);
  const finished = command.exited
    .then((exitCode) => ({ exitCode, stdout, stderr }))
    .finally(() => clearTimeout(timer));
  // Whoever only kills it must not be ended by how it ended.
  finished.catch(() => undefined);
  return {
    finished,
    interrupt: () => command.signal(constants.signals.SIGINT),
    kill: async () => {
      command.kill();
      await command.exited.catch(() => undefined);
    },
  };
}
