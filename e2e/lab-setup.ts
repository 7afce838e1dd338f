/** Brings the lab with Weir up before the end-to-end tests, and down after them. */
import { Lab } from '../lab/lab.ts';
import { installChart, openCluster, provideImage } from './deployment.ts';

/** Vitest's global set-up. */
export async function setup(): Promise<void> {
  const lab = Lab.open({ log: (line) => console.log(line) });
  await lab.up({ cluster: true, nodes: 1, hosts: 1 });
  const image = await provideImage(lab);
  await installChart(await openCluster(lab), image);
}

/** Vitest's global tear-down. `WEIR_E2E_KEEP=1` leaves the lab up for a look. */
export async function teardown(): Promise<void> {
  if (process.env['WEIR_E2E_KEEP'] === '1') return;
  await Lab.open().down();
}
