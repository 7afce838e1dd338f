import { describe, expect, it } from 'vitest';
import type { KubernetesObject } from '../kubernetes/object.ts';
import { parseDaemonSet, parsePod } from './cluster-objects.ts';
import { unusedClaimTemplates } from './unused-claim-templates.ts';

const template = (name: string, uid = 'uid-fast'): KubernetesObject => ({
  metadata: {
    name,
    ownerReferences: [
      { apiVersion: 'weir.dev/v1alpha1', kind: 'NvmeofTarget', name: 'fast', uid, controller: true },
    ],
  },
});
const claims = (name: string) => [{ name: 'rdma', resourceClaimTemplateName: name }];
const pod = (name: string, phase = 'Running', metadata = {}) =>
  parsePod({
    metadata: { name: `of-${name}`, ...metadata },
    spec: { resourceClaims: claims(name) },
    status: { phase },
  });
const daemonSet = (name: string, observedGeneration = 2) =>
  parseDaemonSet({
    metadata: { name: 'weir-target-fast', generation: 2 },
    spec: { template: { spec: { resourceClaims: claims(name) } } },
    status: { observedGeneration },
  });
const unused = (
  templates: KubernetesObject[],
  set: ReturnType<typeof daemonSet> | undefined,
  pods = [pod('new')],
) =>
  unusedClaimTemplates(templates, { uid: 'uid-fast', daemonSet: set, pods }).map(
    ({ metadata }) => metadata.name,
  );

describe('the template of an earlier DeviceClass', () => {
  const both = [template('old'), template('new')];

  it('is unused when no pod was made from it', () => {
    expect(unused(both, daemonSet('new'))).toEqual(['old']);
    expect(unused(both, daemonSet('new'), [])).toEqual(['old']);
  });

  it('stays while a pod has it, on its way out too; one that has ended does not count', () => {
    expect(unused(both, daemonSet('new'), [pod('old'), pod('new')])).toEqual([]);
    const leaving = pod('old', 'Running', { deletionTimestamp: '2026-11-23T08:10:00Z' });
    expect(unused(both, daemonSet('new'), [leaving])).toEqual([]);
    expect(unused(both, daemonSet('new'), [pod('old', 'Failed')])).toEqual(['old']);
  });

  it('stays while the DaemonSet may still make pods from it', () => {
    expect(unused(both, undefined)).toEqual([]);
    expect(unused(both, daemonSet('old'))).toEqual([]);
    expect(unused(both, daemonSet('new', 1))).toEqual([]);
  });

  it('is no other than that of the target, whatever labels another bears', () => {
    expect(unused([template('old', 'uid-other'), { metadata: { name: 'mine' } }], daemonSet('new'))).toEqual(
      [],
    );
  });
});
