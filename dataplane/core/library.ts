/** The C ABI of the native core, bound with koffi. Only core/native-core.ts uses it. */
import { existsSync } from 'node:fs';
import koffi from 'koffi';
import { CoreError } from './errors.ts';

/** The ABI that this dataplane speaks; the library must say the same. */
const abiVersion = 1;

/** The functions of the library. Lengths and capacities are in bytes; strings are UTF-8. */
export interface CoreLibrary {
  open(options: Buffer, length: number, core: [unknown], error: Buffer, errorCapacity: number): number;
  apply(core: unknown, json: Buffer, length: number, error: Buffer, errorCapacity: number): number;
  drain(core: unknown, json: Buffer, length: number, error: Buffer, errorCapacity: number): number;
  /** A descriptor of the core's; see {@link duplicateDescriptor}. */
  eventFd(core: unknown): number;
  takeEvents(core: unknown, buffer: Buffer, capacity: number): number | bigint;
  stats(core: unknown, buffer: Buffer, capacity: number): number | bigint;
  close(core: unknown): void;
}

/** A second descriptor for the same open file, to be closed apart from the first. @throws {CoreError} */
export function duplicateDescriptor(descriptor: number): number {
  const dup = koffi.load(null).func('int dup(int descriptor)');
  const duplicate = Number(dup(descriptor));
  if (duplicate < 0) throw new CoreError('SystemError', 'no descriptor is left: raise the limit (ulimit -n)');
  return duplicate;
}

/**
 * Loads the library and checks that it speaks this ABI.
 *
 * @throws {CoreError} with what to do.
 */
export function loadCoreLibrary(path: string): CoreLibrary {
  if (!existsSync(path)) {
    throw new CoreError(
      'LibraryUnusable',
      `the native core is not at ${path}: build it (npm run build) or name it with --core-library`,
    );
  }
  try {
    const library = koffi.load(path);
    const version: unknown = library.func('uint32_t weir_abi_version()')();
    if (version !== abiVersion) {
      throw new CoreError(
        'LibraryUnusable',
        `the native core at ${path} has ABI version ${String(version)}, this dataplane needs ${abiVersion}: ` +
          'use both from the same version of Weir',
      );
    }
    const json = 'const uint8_t *json, uint64_t length, _Out_ uint8_t *error, uint64_t error_capacity';
    return {
      open: library.func(
        'int32_t weir_open(const uint8_t *options, uint64_t length, _Out_ void **core, ' +
          '_Out_ uint8_t *error, uint64_t error_capacity)',
      ),
      apply: library.func(`int32_t weir_apply(void *core, ${json})`),
      drain: library.func(`int32_t weir_drain(void *core, ${json})`),
      eventFd: library.func('int32_t weir_event_fd(void *core)'),
      takeEvents: library.func(
        'int64_t weir_take_events(void *core, _Out_ uint8_t *buffer, uint64_t capacity)',
      ),
      stats: library.func('int64_t weir_stats(void *core, _Out_ uint8_t *buffer, uint64_t capacity)'),
      close: library.func('void weir_close(void *core)'),
    };
  } catch (error) {
    if (error instanceof CoreError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new CoreError('LibraryUnusable', `the native core at ${path} cannot be loaded: ${message}`);
  }
}
