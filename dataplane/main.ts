// The weir-dataplane process: gives the program its real surroundings. Run by bin/weir-dataplane.
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NativeCore } from './core/native-core.ts';
import { exitCodes } from './exit-codes.ts';
import { collectGarbageRegularly, fullCollection } from './garbage.ts';
import { createLogger } from './logging.ts';
import { run } from './run.ts';

// A bug in the dataplane: say everything, and leave with the code that says so.
process.on('uncaughtException', (error) => {
  createLogger('fatal', {}).fatal({ err: error }, `bug in weir-dataplane: ${error.message}`);
  process.exit(exitCodes.software);
});

collectGarbageRegularly(fullCollection());

const code = await run({
  argv: process.argv.slice(2),
  environment: process.env,
  rootDirectory: dirname(dirname(fileURLToPath(import.meta.url))),
  openCore: (libraryPath, nodeName, directories) => NativeCore.open(libraryPath, nodeName, directories),
  print: (text) => process.stderr.write(text),
  createLogger,
  onStopSignal: (listener) => {
    process.on('SIGTERM', () => listener('SIGTERM'));
    process.on('SIGINT', () => listener('SIGINT'));
  },
  exitNow: (exitCode) => process.exit(exitCode),
});
process.exit(code);
