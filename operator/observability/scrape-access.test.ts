import { describe, expect, it } from 'vitest';
import { type AskForToken, ScrapeAccess, type Verdict } from './scrape-access.ts';

const yes: Verdict = { status: 200, message: '' };
const no: Verdict = { status: 403, message: 'no' };

/** Access with a clock and answers of the test's own; the tokens that were asked about. */
function access(answer: AskForToken) {
  const asked: string[] = [];
  const clock = { ms: 0 };
  const judged = new ScrapeAccess(
    (token) => {
      asked.push(token);
      return answer(token);
    },
    () => clock.ms,
  );
  return {
    asked,
    clock,
    status: async (token: string) => (await judged.judge(`Bearer ${token}`)).status,
    judged,
  };
}

describe('access to metrics', () => {
  it.each([undefined, '', 'Bearer', 'Bearer ', 'Basic YTpi', 'Bearer a b', `Bearer ${'x'.repeat(20_000)}`])(
    'needs a token; %j is none, and nobody is asked',
    async (header) => {
      const { asked, judged } = access(async () => yes);
      expect((await judged.judge(header)).status).toBe(401);
      expect(asked).toEqual([]);
    },
  );

  it('remembers a yes for a minute and a no for ten seconds', async () => {
    const { asked, clock, status } = access(async (token) => (token === 'good' ? yes : no));
    expect([await status('good'), await status('bad')]).toEqual([200, 403]);
    clock.ms = 9_999;
    expect([await status('good'), await status('bad')]).toEqual([200, 403]);
    expect(asked).toEqual(['good', 'bad']);
    clock.ms = 10_000;
    await status('bad');
    clock.ms = 59_999;
    await status('good');
    expect(asked).toEqual(['good', 'bad', 'bad']);
    clock.ms = 60_000;
    await status('good');
    expect(asked).toEqual(['good', 'bad', 'bad', 'good']);
  });

  it('ends a minute after it was taken away', async () => {
    let verdict = yes;
    const { clock, status } = access(async () => verdict);
    expect(await status('good')).toBe(200);
    verdict = no;
    clock.ms = 60_000;
    expect(await status('good')).toBe(403);
  });

  it('outlasts an API server that is away by ten minutes, for those who had it', async () => {
    let away = false;
    const { clock, status } = access(async () => {
      if (away) throw new Error('connect ECONNREFUSED');
      return yes;
    });
    expect(await status('good')).toBe(200);
    away = true;
    expect(await status('stranger')).toBe(503);
    clock.ms = 599_999;
    expect(await status('good')).toBe(200);
    clock.ms = 600_000;
    expect(await status('good')).toBe(503);
  });

  it('asks once for requests that come together, and about few tokens at a time', async () => {
    const gate = Promise.withResolvers<Verdict>();
    const { asked, status } = access(() => gate.promise);
    const answers = ['a', 'a', 'b', 'c', 'd', 'e'].map(status);
    expect(await answers[5]).toBe(503);
    gate.resolve(yes);
    expect(await Promise.all(answers.slice(0, 5))).toEqual([200, 200, 200, 200, 200]);
    expect(asked).toEqual(['a', 'b', 'c', 'd']);
  });

  it('does not forget a scraper over strangers with invented tokens', async () => {
    const { asked, status } = access(async (token) => (token === 'good' ? yes : no));
    await status('good');
    for (let index = 0; index < 200; index += 1) await status(`invented-${index}`);
    await status('good');
    expect(asked.filter((token) => token === 'good')).toHaveLength(1);
  });
});
