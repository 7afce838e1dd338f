import { expect, it } from 'vitest';
import { EditTimes } from './edit-times.ts';

it('counts an object once, from the edit of its target to the first change after it', () => {
  const times = new EditTimes();
  times.arrived('scale/a', 'scale/a-n1', 50);
  times.begin('scale/a', 100);
  times.arrived('scale/b', 'scale/b-n1', 105);
  times.arrived('scale/a', 'scale/a-n1', 110);
  times.arrived('scale/a', 'scale/a-n2', 130);
  times.arrived('scale/a', 'scale/a-n1', 900);
  expect(times.tookMs).toEqual([10, 30]);
});
