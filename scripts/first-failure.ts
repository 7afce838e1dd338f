// What cargo starts the tests of a mutant with: ends with the first test that fails. That one noticed is all there is to know.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** As a test program exits that found a failure. */
const failed = 101;

const [program = '', ...args] = process.argv.slice(2);
const tests = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
const ended = new Promise<number>((resolve, reject) => {
  tests.on('error', reject);
  tests.on('exit', (code) => resolve(code ?? failed));
});
for await (const line of createInterface({ input: tests.stdout })) {
  console.log(line);
  if (/^test .* \.\.\. FAILED$/.test(line)) tests.kill('SIGKILL');
}
process.exitCode = await ended;
