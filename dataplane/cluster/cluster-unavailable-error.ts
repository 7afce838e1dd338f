/** There is no cluster to read from. The message says what to do. */
export class ClusterUnavailableError extends Error {
  readonly code = 'WEIR_CLUSTER_UNAVAILABLE';
}
