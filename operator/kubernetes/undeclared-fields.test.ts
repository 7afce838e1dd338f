import { describe, expect, it } from 'vitest';
import { ApiError } from './api-error.ts';
import { applyKnownFields, undeclaredFields, withoutFields } from './undeclared-fields.ts';

const refusal = (message: string) => new ApiError('PATCH /x', 500, JSON.stringify({ message }));

describe('fields that an older CRD does not have', () => {
  it('are read from the refusal of the API server, and left out in every item', () => {
    const fields = undeclaredFields(
      refusal(
        'failed to create typed patch object (storage/fast-a; weir.dev/v1alpha1, Kind=NvmeofTargetNode): errors:\n' +
          '  .status.listeners[name="storage"].outages: field not declared in schema\n' +
          '  .status.specRevision: field not declared in schema',
      ),
    );
    expect(fields).toEqual(['status.listeners.outages', 'status.specRevision']);
    const status = { specRevision: 2, listeners: [{ name: 'a', outages: [] }, { name: 'b' }], version: '1' };
    expect(withoutFields({ kind: 'K', status }, fields)).toEqual({
      kind: 'K',
      status: { listeners: [{ name: 'a' }, { name: 'b' }], version: '1' },
    });
  });

  it('are read from a refusal of one field too, which is all on one line', () => {
    const message =
      'failed to create typed patch object (storage/fast-a; weir.dev/v1alpha1, Kind=NvmeofTargetNode): .status.specRevision: field not declared in schema';
    expect(undeclaredFields(refusal(message))).toEqual(['status.specRevision']);
  });

  it('are told from the keys of items, whatever is in those', () => {
    const key = String.raw`[hostNQN="nqn.x:a] b\".c: d",nsid=1]`;
    const message = `(a/b): .status.hosts${key}.secure: field not declared in schema`;
    expect(undeclaredFields(refusal(message))).toEqual(['status.hosts.secure']);
  });

  it('are none where something else is wrong', () => {
    expect(undeclaredFields(refusal('etcdserver: request timed out'))).toEqual([]);
    expect(undeclaredFields(new Error('.status.a: field not declared in schema'))).toEqual([]);
    expect(withoutFields({ a: 1 }, ['b.c'])).toEqual({ a: 1 });
  });
});

describe('applying what an older CRD has', () => {
  const status = {
    specRevision: 2,
    listeners: [{ name: 'a', outages: [] }],
    hosts: [{ secure: true }],
    version: '1',
  };

  it('goes on until nothing more is refused: the API server names one field of a map at a time', async () => {
    const asked: object[] = [];
    const refusals = [
      '.status.hosts[0].secure',
      '.status.specRevision',
      '.status.listeners[name="a"].outages',
    ];
    await applyKnownFields({ status }, (object) => {
      const refused = refusals[asked.push(object) - 1];
      if (refused === undefined) return Promise.resolve();
      return Promise.reject(refusal(`(a/b): ${refused}: field not declared in schema`));
    });
    expect(asked).toHaveLength(4);
    expect(asked[0]).toEqual({ status });
    expect(asked[3]).toEqual({ status: { listeners: [{ name: 'a' }], hosts: [{}], version: '1' } });
  });

  it.each([
    [
      'names a field that was left out',
      refusal('(a/b): .status.specRevision: field not declared in schema'),
      2,
    ],
    ['says something else', refusal('etcdserver: request timed out'), 1],
  ])('ends at a refusal that %s', async (_, error, requests) => {
    let asked = 0;
    const applying = applyKnownFields({ status }, () => {
      asked += 1;
      return Promise.reject(error);
    });
    await expect(applying).rejects.toBe(error);
    expect(asked).toBe(requests);
  });
});
