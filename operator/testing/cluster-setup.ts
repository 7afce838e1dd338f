/** Installs, before the tests against a real API server, the Debian packages that it needs and the machine lacks. */
import { lineProgress } from '../../lab/progress.ts';
import { installPackages } from '../../lab/setup/packages.ts';

/** Vitest's hook: once, in the process that starts the others, so that they find the programs on PATH. */
export async function setup(): Promise<void> {
  await installPackages(lineProgress((line) => console.log(line)));
}
