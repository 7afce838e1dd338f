import { describe, expect, it, vi } from 'vitest';
import { parseOptions } from './options.ts';

/** What is printed for a command line that cannot be read. */
function complaint(...argv: string[]): string {
  let printed = '';
  const write = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    printed += String(text);
    return true;
  });
  const exit = vi.spyOn(process, 'exit').mockImplementation(() => {
    throw new Error('exit');
  });
  try {
    expect(() => parseOptions(['--dataplane-image', 'weir', ...argv])).toThrow('exit');
  } finally {
    write.mockRestore();
    exit.mockRestore();
  }
  return printed;
}

describe('the command line of the operator', () => {
  it('needs only the image of the dataplanes', () => {
    expect(parseOptions(['--dataplane-image', 'weir:1'])).toEqual({
      namespace: 'weir-system',
      metricsAddress: '0.0.0.0:8080',
      metricsTlsDirectory: undefined,
      leaderElect: false,
      leaderElectionTimes: { leaseSeconds: 15, renewDeadlineSeconds: 12, retrySeconds: 2 },
      logLevel: 'info',
      dataplane: {
        image: 'weir:1',
        imagePullPolicy: 'IfNotPresent',
        imagePullSecrets: [],
        priorityClassName: undefined,
        metricsAuthentication: false,
        metricsTlsSecret: undefined,
        deviceAccess: 'DevicePlugin',
        deviceResource: 'rdma/shared',
        deviceClass: '',
        requests: { cpu: '100m', memory: '256Mi' },
        seccompProfile: 'RuntimeDefault',
        logLevel: 'info',
        portRange: { first: 9810, last: 9899 },
        fileDirectories: ['/var/lib/weir'],
        deviceDirectories: ['/dev'],
      },
    });
  });

  it('takes directories one by one', () => {
    const argv = ['--dataplane-image', 'w', '--file-directory', '/a', '--file-directory', '/b'];
    expect(parseOptions(argv).dataplane.fileDirectories).toEqual(['/a', '/b']);
  });

  it('protects metrics here and there with one option', () => {
    const argv = [
      '--metrics-authentication',
      '--metrics-tls-directory',
      '/tls',
      '--dataplane-metrics-tls-secret',
      's',
    ];
    expect(parseOptions(['--dataplane-image', 'w', ...argv])).toMatchObject({
      metricsTlsDirectory: '/tls',
      dataplane: { metricsAuthentication: true, metricsTlsSecret: 's' },
    });
  });

  it.each([
    [['--port-range', '99'], 'write FIRST-LAST'],
    [['--port-range', '9900-9800'], 'write FIRST-LAST'],
    [['--port-range', '80-90'], 'write FIRST-LAST'],
    [
      ['--device-access', 'Maybe'],
      'Allowed choices are DevicePlugin, ResourceClaim, HostDevices, Privileged',
    ],
    [['--device-access', 'ResourceClaim'], 'needs --device-class'],
    [['--file-directory', 'relative'], 'write an absolute path'],
    [['--file-directory', '/var/../etc'], 'write an absolute path'],
    [['--seccomp-profile', 'Localhost'], 'write RuntimeDefault, Unconfined or Localhost/PATH'],
    [['--leader-elect-lease-duration', '15'], 'write a time like 15s'],
    [['--leader-elect-lease-duration', '1500ms'], 'must be whole seconds'],
    [['--leader-elect-renew-deadline', '15s'], 'must be shorter than --leader-elect-lease-duration'],
    [['--leader-elect-retry-period', '12s'], 'must be shorter than --leader-elect-renew-deadline'],
    [['--colour'], 'unknown option'],
  ])('refuses %j with words', (argv, message) => {
    expect(complaint(...argv)).toContain(message);
  });
});
