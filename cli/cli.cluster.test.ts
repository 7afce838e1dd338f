import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DATAPLANE_FIELD_MANAGER } from '../crds/api-group.ts';
import { apiVersionOf, objectPath, RESOURCES } from '../operator/kubernetes/resource.ts';
import { sampleSpecInput } from '../operator/testing/samples.ts';
import { TestCluster } from '../operator/testing/test-cluster.ts';
import { sampleView } from './testing/sample-view.ts';

const program = fileURLToPath(new URL('../bin/kubectl-weir', import.meta.url));

describe('kubectl weir on a real API server', () => {
  let cluster: TestCluster;

  const weir = async (...args: string[]): Promise<{ stdout: string; stderr: string; code: number }> =>
    promisify(execFile)(process.execPath, [program, ...args, '--kubeconfig', cluster.kubeconfig]).then(
      ({ stdout, stderr }) => ({ stdout, stderr, code: 0 }),
      (error: { stdout: string; stderr: string; code: number }) => error,
    );

  beforeAll(async () => {
    cluster = await TestCluster.start();
    await cluster.createNamespace('storage');
    await cluster.applyTarget('storage', 'fast', sampleSpecInput());
    for (const { metadata, spec, status } of sampleView.nodes) {
      const object = {
        apiVersion: apiVersionOf(RESOURCES.targetNodes),
        kind: RESOURCES.targetNodes.kind,
        metadata,
      };
      const subsystems = [
        { nqn: 'nqn.2026-11.dev.weir:fast', access: { policy: 'AnyHost' }, namespaces: [] },
      ];
      const listeners = [{ name: 'storage', addressFrom: { address: '10.9.0.1' } }];
      await cluster.api.apply(
        objectPath(RESOURCES.targetNodes, metadata),
        { ...object, spec: { ...spec, listeners, subsystems } },
        'test',
      );
      await cluster.api.apply(
        objectPath(RESOURCES.targetNodes, metadata, 'status'),
        { ...object, status },
        DATAPLANE_FIELD_MANAGER,
      );
    }
  });
  afterAll(() => cluster.stop());

  it('shows listeners, hosts and outages', async () => {
    expect((await weir('status', 'fast', '-n', 'storage')).stdout).toMatch(
      /node-b +storage +\[fd00::2\]:4420/,
    );
    expect((await weir('hosts', '-A')).stdout).toMatch(/uuid:a +storage\/fast +node-a +storage +10\.9\.0\.2/);
    expect((await weir('history', '-A')).stdout).toContain('OUTAGE, goes on: LinkDown');
  });

  it('says in one line that there is no such target, and which there are', async () => {
    expect(await weir('status', 'slow', '-n', 'storage')).toMatchObject({
      code: 1,
      stdout: '',
      stderr: 'kubectl weir: there is no NvmeofTarget slow in namespace storage; there are: storage/fast\n',
    });
  });
});
