import { describe, expect, it } from 'vitest';
import { parseOptions, UsageError } from './options.ts';

function parse(argv: string[], environment: Record<string, string> = {}) {
  let printed = '';
  try {
    const options = parseOptions(argv, environment, '/opt/weir', '0.1.0', (text) => {
      printed += text;
    });
    return { options, printed };
  } catch (error) {
    if (error instanceof UsageError) return { printed, harmless: error.harmless };
    throw error;
  }
}

describe('the command line', () => {
  it('serves a file on loopback by default', () => {
    expect(parse(['--config', 'target.yaml']).options).toEqual({
      source: { kind: 'file', path: 'target.yaml' },
      metricsAddress: { host: '127.0.0.1', port: 9810 },
      metricsAuthentication: false,
      coreLibrary: '/opt/weir/dist/native/libweir_core.so',
      logLevel: 'info',
      drainTimeoutSeconds: undefined,
    });
  });

  it('serves an object of the cluster, named by flags, on the node named by the environment', () => {
    const argv = ['--namespace', 'storage', '--name', 'fast-node-a', '--metrics-address', '0.0.0.0:9811'];
    expect(parse(argv, { NODE_NAME: 'node-a', TARGET: 'storage/fast' }).options).toMatchObject({
      source: {
        kind: 'cluster',
        namespace: 'storage',
        name: 'fast-node-a',
        node: 'node-a',
        target: 'storage/fast',
      },
      metricsAddress: { host: '0.0.0.0', port: 9811 },
    });
  });

  it("finds its pod's object by target and node", () => {
    const { options } = parse(['--namespace', 'storage'], { NODE_NAME: 'node-a', TARGET: 'storage/fast' });
    expect(options?.source).toMatchObject({ name: 'fast-node-a', node: 'node-a', target: 'storage/fast' });
  });

  it('takes the native core from the environment', () => {
    const { options } = parse(['--config', 'x'], { WEIR_CORE_LIBRARY: '/lib/core.so' });
    expect(options?.coreLibrary).toBe('/lib/core.so');
  });

  it.each([
    { argv: [], says: 'give --config FILE' },
    { argv: ['--namespace', 'storage'], says: 'give --config FILE' },
    { argv: ['--config', 'x', '--name', 'y'], says: '--config serves without a cluster' },
    { argv: ['--config', 'x', '--metrics-address', 'here'], says: 'no HOST:PORT' },
    { argv: ['--config', 'x', '--metrics-address', '1.2.3.4:70000'], says: 'no HOST:PORT' },
    { argv: ['--config', 'x', '--log-level', 'loud'], says: 'Allowed choices' },
    { argv: ['--config', 'x', '--drain-timeout-seconds', '-1'], says: 'whole number of seconds' },
    { argv: ['--config', 'x', '--colour'], says: 'unknown option' },
    { argv: ['--config', 'x', 'y'], says: 'too many arguments' },
  ])('$argv is refused with words', ({ argv, says }) => {
    const { printed, harmless } = parse(argv);
    expect(harmless).toBe(false);
    expect(printed).toContain(says);
  });

  it('explains itself', () => {
    const { printed, harmless } = parse(['--help']);
    expect(harmless).toBe(true);
    expect(printed).toContain('--metrics-address');
    expect(parse(['--version'])).toEqual({ printed: '0.1.0\n', harmless: true });
  });
});
