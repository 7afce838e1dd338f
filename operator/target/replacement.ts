/** The replacement of a pod, written down at its NvmeofTargetNode: whoever leads next goes on with it. */
import { z } from 'zod';
import { GROUP } from '../../crds/api-group.ts';
import type { StoredTargetNode } from './nvmeof-target.ts';

/** Annotation of an NvmeofTargetNode while its pod is replaced. */
export const REPLACEMENT_ANNOTATION = `${GROUP}/replacement`;

const replacementSchema = z.object({
  /** Pod that goes. */
  pod: z.string(),
  podUid: z.string(),
  /** When its replacement began. */
  since: z.iso.datetime(),
  /** NQNs of the hosts that were connected to it; as many as a status names. */
  hosts: z.array(z.string()),
});

/** See the module's comment. */
export type Replacement = z.output<typeof replacementSchema>;

/** The replacement that is under way; what cannot be read is none. */
export function replacementOf(object: StoredTargetNode | undefined): Replacement | undefined {
  const text = object?.metadata.annotations?.[REPLACEMENT_ANNOTATION];
  if (text === undefined) return undefined;
  try {
    return replacementSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** The annotation's value. */
export function formatReplacement(replacement: Replacement): string {
  return JSON.stringify(replacement);
}
