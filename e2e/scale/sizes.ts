/** Sizes of clusters as they are written on the command line. */
import { InvalidArgumentError } from 'commander';

/** Nodes and targets of one run. */
export interface ClusterSize {
  readonly nodes: number;
  readonly targets: number;
}

/**
 * Reads `250,500,1000x200`: nodes and, after an x, targets; as many as nodes where it says nothing.
 * @throws {InvalidArgumentError}
 */
export function parseSizes(text: string): ClusterSize[] {
  return text.split(',').map((one) => {
    const [, nodes = '', targets = nodes] = /^([1-9]\d*)(?:x([1-9]\d*))?$/.exec(one.trim()) ?? [];
    if (nodes === '')
      throw new InvalidArgumentError('write sizes like 250,500,1000 or 100x50 (nodes x targets).');
    return { nodes: Number(nodes), targets: Number(targets) };
  });
}
