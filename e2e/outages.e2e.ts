import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EndToEnd, openEndToEnd } from './fixture.ts';
import { makeTarget } from './flap/make-target.ts';
import { violations } from './flap/report.ts';
import { runScenario } from './flap/run-scenario.ts';
import { kill } from './flap/scenarios/process-ends.ts';
import { applyTarget, connectHost, deleteTarget } from './main-path.ts';

/** One of the outages that `npm run flap` knows; the others would take too long here. */
describe('outages under verified I/O', () => {
  let e2e: EndToEnd;

  beforeAll(async () => {
    e2e = await openEndToEnd();
    await applyTarget(e2e.path);
  });

  afterAll(async () => {
    await connectHost(e2e.path);
    await deleteTarget(e2e.path);
  });

  it('reaches its figures when the dataplane is killed while the cable is out', async () => {
    const where = { e2e, note: (line: string) => console.log(line) };
    const record = await runScenario(where, makeTarget(e2e, 'weir', kill), kill, 1);
    expect(violations(record)).toEqual([]);
    expect(record.flaps).toHaveLength(1);
  });
});
