import { describe, expect, it } from 'vitest';
import type { Api } from '../kubernetes/api-client.ts';
import { FencedApi, NotLeaderError } from './fenced-api.ts';

/** Counts what reaches it. */
class CountingApi implements Api {
  calls: string[] = [];
  get = async () => this.calls.push('get');
  create = async () => this.calls.push('create');
  replace = async () => this.calls.push('replace');
  apply = async () => this.calls.push('apply');
  mergePatch = async () => this.calls.push('mergePatch');
  delete = async () => this.calls.push('delete');
  async *watch(): AsyncGenerator<unknown> {
    yield this.calls.push('watch');
  }
}

const writes: ReadonlyMap<string, (api: Api) => Promise<unknown>> = new Map([
  ['create', (api) => api.create('/p', {})],
  ['replace', (api) => api.replace('/p', {})],
  ['apply', (api) => api.apply('/p', {}, 'manager')],
  ['mergePatch', (api) => api.mergePatch('/p', {})],
  ['delete', (api) => api.delete('/p')],
]);

describe('the API of a replica', () => {
  it.each([...writes.keys()])('sends %s while it leads, and nothing when it does not', async (name) => {
    const inner = new CountingApi();
    let leads = true;
    const api = new FencedApi(inner, () => leads);
    await writes.get(name)?.(api);
    leads = false;
    await expect(writes.get(name)?.(api)).rejects.toThrow(NotLeaderError);
    expect(inner.calls).toEqual([name]);
  });

  it('reads either way: caches are warm before it leads', async () => {
    const inner = new CountingApi();
    const api = new FencedApi(inner, () => false);
    await api.get('/p');
    for await (const line of api.watch('/p', {}, new AbortController().signal)) expect(line).toBe(2);
    expect(inner.calls).toEqual(['get', 'watch']);
  });
});
