import { describe, expect, it } from 'vitest';
import { renderPicture } from './picture.ts';
import { sampleRecord } from './sample-record.ts';

describe('renderPicture', () => {
  const picture = renderPicture(
    [
      sampleRecord({
        target: 'weir',
        rate: { binMs: 500, finished: [10, 0, 0, 20], outages: [[500, 1500]] },
      }),
      sampleRecord({ target: 'nvmet', rate: { binMs: 500, finished: [8, 0, 0, 0], outages: [[500, 1500]] } }),
    ],
    () => 'a <cable> & more',
  );

  it('has one curve for each target, with its outages', () => {
    expect(picture).toContain('<title>');
    expect(picture.match(/<polyline/g)).toHaveLength(2);
    expect(picture.match(/fill-opacity="0.16"/g)).toHaveLength(2);
    expect(picture).toContain('>Weir<');
    expect(picture).toContain('nvmet-rdma');
  });

  it('says over each outage how long I/O took', () => {
    expect(picture.match(/>0\.4 s</g)).toHaveLength(2);
  });

  it('is well-formed whatever a scenario says', () => {
    expect(picture).toContain('a &lt;cable&gt; &amp; more');
    expect(picture).not.toMatch(/NaN|Infinity|undefined/);
  });

  it('can be drawn of a run that saw nothing', () => {
    const empty = sampleRecord({ flaps: [], rate: { binMs: 500, finished: [], outages: [] } });
    expect(renderPicture([empty], () => '')).not.toMatch(/NaN|Infinity/);
    expect(renderPicture([], () => '')).toContain('</svg>');
  });

  it('keeps a long run to as many points as there is room for', () => {
    const long = sampleRecord({
      rate: { binMs: 500, finished: Array.from({ length: 20_000 }, () => 5), outages: [] },
    });
    const points = /<polyline points="([^"]*)"/.exec(renderPicture([long], () => ''))?.[1]?.split(' ') ?? [];
    expect(points.length).toBeLessThan(1200);
    expect(points.length).toBeGreaterThan(500);
  });
});
