import { describe, expect, it } from 'vitest';
import { PORT_PHASES } from '../../crds/nvmeof-target-node.ts';
import { sampleListener, sampleStats } from '../core/fake-core.ts';
import type { ListenerStats } from '../core/stats.ts';
import { type ConditionType, judgeConditions } from './conditions.ts';

type Row = [
  phase: ListenerStats['phase'],
  listener: Partial<ListenerStats>,
  verdicts: Partial<Record<ConditionType, string>>,
];

const up = { linkUp: true };
const down = { linkUp: false, message: 'interface rdma0 is down or has no carrier' };
const fine = { LinksUp: 'True/LinksUp', DeviceHealthy: 'True/Healthy', Degraded: 'False/FullService' };
const linkDown = {
  ...fine,
  LinksUp: 'False/LinkDown',
  ListenersReady: 'False/LinkDown',
  Ready: 'False/LinkDown',
};
const sick = (reason: string) => ({
  ...fine,
  DeviceHealthy: `False/${reason}`,
  ListenersReady: `False/${reason}`,
  Ready: `False/${reason}`,
});
const waits = (reason: string) => ({ ...fine, ListenersReady: `False/${reason}`, Ready: `False/${reason}` });

/** What a port can be like, and what the conditions say of it. Every phase, with every kind of reason that leads there. */
const rows: Row[] = [
  ['Serving', { ...up, reason: 'Serving' }, { ...fine, ListenersReady: 'True/Serving', Ready: 'True/Ready' }],
  [
    'Serving',
    { ...up, reason: 'LinkBackInTime' },
    { ...fine, ListenersReady: 'True/Serving', Ready: 'True/Ready' },
  ],
  [
    'Degraded',
    { ...up, reason: 'MemoryPartlyRegistered' },
    { ...fine, Degraded: 'True/MemoryPartlyRegistered', ListenersReady: 'True/Serving', Ready: 'True/Ready' },
  ],
  ['Holding', { ...down, reason: 'LinkDown' }, linkDown],
  ['Draining', { ...down, reason: 'HoldTimeOver' }, linkDown],
  ['Draining', { ...up, reason: 'SettingsChanged' }, waits('SettingsChanged')],
  ['Draining', { ...up, reason: 'QueueError' }, waits('QueueError')],
  ['Draining', { ...up, reason: 'DeviceFatal' }, sick('DeviceFatal')],
  [
    'Draining',
    { ...down, reason: 'AddressNotFound' },
    {
      ...fine,
      LinksUp: 'False/AddressNotFound',
      ListenersReady: 'False/AddressNotFound',
      Ready: 'False/AddressNotFound',
    },
  ],
  ['Down', { ...down, reason: 'LinkDown' }, linkDown],
  ['Down', { ...up, reason: 'LinkStabilizing' }, waits('LinkStabilizing')],
  [
    'Down',
    { ...down, reason: 'Starting' },
    { ...fine, LinksUp: 'Unknown/Starting', ListenersReady: 'False/Starting', Ready: 'False/Starting' },
  ],
  [
    'Down',
    { ...down, reason: 'InterfaceNotFound' },
    {
      ...fine,
      LinksUp: 'False/InterfaceNotFound',
      ListenersReady: 'False/InterfaceNotFound',
      Ready: 'False/InterfaceNotFound',
    },
  ],
  ['Down', { ...down, reason: 'NoRdmaDevice' }, { ...sick('NoRdmaDevice'), LinksUp: 'False/NoRdmaDevice' }],
  [
    'Down',
    { ...down, reason: 'DeviceRemoved' },
    { ...sick('DeviceRemoved'), LinksUp: 'False/DeviceRemoved' },
  ],
  ['Arming', { ...up, reason: 'Arming' }, waits('Arming')],
  ['Arming', { ...up, reason: 'MemoryRegistrationFailed' }, waits('MemoryRegistrationFailed')],
  ['Arming', { ...up, reason: 'DevicePortNotActive' }, waits('DevicePortNotActive')],
  [
    'Quarantined',
    { ...down, reason: 'DrainTimedOut' },
    { ...linkDown, ListenersReady: 'False/DrainTimedOut' },
  ],
  ['Quarantined', { ...up, reason: 'DrainTimedOut' }, waits('DrainTimedOut')],
  ['Failed', { ...up, reason: 'DeviceFatal' }, sick('DeviceFatal')],
  ['Failed', { ...up, reason: 'ManagementQueuePairDead' }, sick('ManagementQueuePairDead')],
  ['Failed', { ...up, reason: 'DeviceOpenFailed' }, sick('DeviceOpenFailed')],
  ['Failed', { ...up, reason: 'QueueCreationFailed' }, sick('QueueCreationFailed')],
  ['Failed', { ...up, reason: 'SomethingOfTheFuture' }, sick('SomethingOfTheFuture')],
  ['Failed', { ...up, reason: '' }, { ...sick('DeviceFailed'), ListenersReady: 'False/Failed' }],
  ['Failed', { ...up, reason: 'MemoryRegistrationFailed' }, waits('MemoryRegistrationFailed')],
  ['Failed', { ...up, reason: 'PortInUse' }, waits('PortInUse')],
];

function judge(...listeners: ListenerStats[]) {
  const stats = sampleStats({ generation: 1, listeners });
  return judgeConditions({ stats, refusal: undefined, node: 'node-a' });
}

describe('the conditions of a node', () => {
  it.each(rows)('of a port in phase %s with %o', (phase, changes, expected) => {
    const verdicts = judge(sampleListener({ phase, message: '', ...changes }));
    const told = Object.entries(verdicts).map(([type, { status, reason }]) => [type, `${status}/${reason}`]);
    expect(Object.fromEntries(told)).toMatchObject(expected);
  });

  it('are tested in every phase', () => {
    expect(new Set(rows.map(([phase]) => phase))).toEqual(new Set(PORT_PHASES));
  });

  it('name the listener, the interface, the node and what to do when a link is down', () => {
    const { LinksUp } = judge(
      sampleListener(),
      sampleListener({ ...down, name: 'second', netdev: 'rdma1', phase: 'Down' }),
    );
    expect(LinksUp.message).toBe(
      'listener second: link rdma1 is down; look at "ip link show rdma1" on node-a, the cable and the switch port; the listener serves again by itself when the link is back',
    );
  });

  it('hand on the cure of a dead management queue pair', () => {
    const cure = 'delete the rxe device and add it again';
    const listener = sampleListener({ phase: 'Failed', reason: 'ManagementQueuePairDead', message: cure });
    expect(judge(listener).DeviceHealthy.message).toBe(`listener storage on node-a: device rxe0: ${cure}`);
  });

  it('say where memory is missing', () => {
    const listener = sampleListener({
      phase: 'Degraded',
      reason: 'MemoryPartlyRegistered',
      message: '5 bytes missing',
    });
    expect(judge(listener).Degraded.message).toContain(
      'listener storage: 5 bytes missing; look at the memory',
    );
    expect(judge(listener).Degraded.message).toContain('node-a');
  });

  it('tell of all that is wrong, with the reason of the first', () => {
    const { LinksUp } = judge(
      sampleListener({ ...down, phase: 'Holding', reason: 'LinkDown' }),
      sampleListener({
        ...down,
        name: 'second',
        phase: 'Down',
        reason: 'AddressNotFound',
        message: 'no address',
      }),
    );
    expect(LinksUp.reason).toBe('LinkDown');
    expect(LinksUp.message).toContain('; listener second on node-a: no address');
  });

  it('are unknown until something is served', () => {
    const stats = sampleStats({ generation: 0, listeners: [], namespaces: [] });
    const verdicts = judgeConditions({ stats, refusal: undefined, node: 'node-a' });
    for (const type of [
      'ListenersReady',
      'LinksUp',
      'DeviceHealthy',
      'NamespacesReady',
      'Degraded',
    ] as const) {
      expect(verdicts[type]).toMatchObject({ status: 'Unknown', reason: 'Starting' });
    }
    expect(verdicts.Ready).toMatchObject({ status: 'False', reason: 'Starting' });
  });
});
