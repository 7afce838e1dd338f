import { describe, expect, it } from 'vitest';
import { lineProgress } from '../../lab/progress.ts';
import { measureScale } from './measure.ts';

describe('the operator at scale', () => {
  it('asks a fixed number of times for each object that changes, and for nothing at rest', async () => {
    const size = { nodes: 20, targets: 20, pods: false, timeoutSeconds: 90, restSeconds: 3 };
    const lines: string[] = [];
    const record = await measureScale(
      size,
      lineProgress((line) => lines.push(line)),
    );
    // Each part that may last tells that it has begun.
    const begun = lines.filter((line) => line.startsWith('…')).join('\n');
    for (const part of ['API server', '20 nodes', 'apply 20 targets', 'at rest', 'edit 20 targets'])
      expect(begun).toContain(part);
    expect(record.objects).toBe(200);
    // Of each node object its specification and a first status; a tenth of what its target needs beside (10 to 12).
    expect(record.requestsPerObject).toBeLessThan(3.5);
    expect(record.edits.count).toBe(20);
    // The object itself; a tenth of the target's status and Events.
    expect(record.edits.requestsPerObject).toBeLessThan(2);
    expect(record.rest.requests).toBe(0);
  }, 240_000);
});
