import { describe, expect, it } from 'vitest';
import { ApiError } from './api-error.ts';
import { undeclaredFields, withoutFields } from './undeclared-fields.ts';

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

  it('are none where something else is wrong', () => {
    expect(undeclaredFields(refusal('etcdserver: request timed out'))).toEqual([]);
    expect(undeclaredFields(new Error('.status.a: field not declared in schema'))).toEqual([]);
    expect(withoutFields({ a: 1 }, ['b.c'])).toEqual({ a: 1 });
  });
});
