import { expect, test } from 'vitest';
import { LabError } from '../errors.ts';
import { guestNames, planGuest } from './plan.ts';

test('the first node and the first host have the addresses that examples use', () => {
  expect(planGuest('node-a').rdmaAddress).toBe('10.9.0.1');
  expect(planGuest('host-a').rdmaAddress).toBe('10.9.0.2');
});

test('no two guests share a number, an address or an identity', () => {
  const plans = [...guestNames('node', 5), ...guestNames('host', 8)].map(planGuest);
  for (const key of [
    'number',
    'managementAddress',
    'rdmaAddress',
    'rdmaMac',
    'podRange',
    'hostNqn',
  ] as const) {
    expect(new Set(plans.map((plan) => plan[key])).size).toBe(plans.length);
  }
});

test('a host keeps its qualified name, so that an allow-list can be written down', () => {
  expect(planGuest('host-a').hostNqn).toBe(planGuest('host-a').hostNqn);
  expect(planGuest('host-a').hostNqn).toMatch(
    /^nqn\.2014-08\.org\.nvmexpress:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  );
});

test.each(['node', 'node-f', 'host-i', 'host-A', '../node-a'])('%s is not a guest', (name) => {
  expect(() => planGuest(name)).toThrow(LabError);
});
