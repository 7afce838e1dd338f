/** Which network a target's pods are on. */
import { z } from 'zod';
import { withRule } from './rule.ts';

const ANNOTATIONS_MAX = 16;
const ANNOTATION_KEY_LENGTH_MAX = 317;
const ANNOTATION_LENGTH_MAX = 8192;

/**
 * Owners of annotations that no user may put on a pod which somebody else makes: with `cdi.k8s.io/…` container runtimes
 * hand out devices, others lift security profiles, and the rest are Weir's own.
 */
const RESERVED_DOMAINS = ['kubernetes.io/', 'k8s.io/', 'weir.dev/'] as const;

function isNetworkAnnotation(key: string): boolean {
  return key.includes('/') && !RESERVED_DOMAINS.some((domain) => key.includes(domain));
}

const annotationsSchema = withRule(
  z
    .record(z.string().min(1).max(ANNOTATION_KEY_LENGTH_MAX), z.string().max(ANNOTATION_LENGTH_MAX))
    .refine((map) => Object.keys(map).length <= ANNOTATIONS_MAX, {
      message: `must have at most ${ANNOTATIONS_MAX} entries`,
    })
    .default(() => ({}))
    .meta({ maxProperties: ANNOTATIONS_MAX }),
  {
    rule: `self.all(key, key.contains('/') && ${RESERVED_DOMAINS.map((domain) => `!key.contains('${domain}')`).join(' && ')})`,
    message:
      'annotations are for network plugins, like k8s.v1.cni.cncf.io/networks: each needs a prefix, and none of kubernetes.io, k8s.io and weir.dev',
  },
  (annotations) => Object.keys(annotations).every(isNetworkAnnotation),
).describe(
  "Annotations of the pods, for network plugins: with Multus, k8s.v1.cni.cncf.io/networks names the secondary interfaces that listeners are on. With mode Pod only; keys need a prefix, and Kubernetes' own are not taken.",
);

/** The network of a target's pods. */
export const networkSchema = withRule(
  z.strictObject({
    mode: z
      .enum(['Host', 'Pod'])
      .default('Host')
      .describe(
        "Host: the node's network, the only one with soft RDMA. Pod: the pods' own, with secondary interfaces by annotations; needs a network plugin that moves RDMA-capable interfaces into pods, like SR-IOV or macvlan. A change replaces the pods, one node at a time.",
      ),
    annotations: annotationsSchema,
  }),
  {
    rule: "self.mode == 'Pod' || self.annotations.size() == 0",
    message: 'annotations are for pods on their own network: remove them, or set mode: Pod',
    fieldPath: '.annotations',
  },
  ({ mode, annotations }) => mode === 'Pod' || Object.keys(annotations).length === 0,
)
  .prefault({})
  .describe('The network of the pods.');

/** Whether pods share addresses and ports with their node, and with each other's targets there. */
export function isOnHostNetwork(spec: { readonly network: z.output<typeof networkSchema> }): boolean {
  return spec.network.mode === 'Host';
}
