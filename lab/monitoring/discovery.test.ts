import { describe, expect, it } from 'vitest';
import { type EndpointSlice, endpointTargets, type Pod, podTargets, type Service } from './discovery.ts';

const pod = (name: string, labels: Record<string, string>, podIP?: string): Pod => ({
  metadata: { name, namespace: 'storage', labels },
  spec: {
    nodeName: 'node-a',
    containers: [
      { name: 'main', ports: [{ name: 'metrics', containerPort: 9810 }, { containerPort: 4420 }] },
    ],
  },
  status: { phase: 'Running', ...(podIP === undefined ? {} : { podIP }) },
});

const pods = [pod('one', { 'app.kubernetes.io/name': 'weir-dataplane' }, '10.0.2.101'), pod('starting', {})];

describe('service discovery', () => {
  it('finds every port of every pod that has an address, with the labels that Prometheus gives them', () => {
    expect(podTargets(pods)).toMatchObject([
      {
        targets: ['10.0.2.101:9810'],
        labels: {
          __meta_kubernetes_namespace: 'storage',
          __meta_kubernetes_pod_name: 'one',
          __meta_kubernetes_pod_container_port_name: 'metrics',
          __meta_kubernetes_pod_container_port_number: '9810',
          __meta_kubernetes_pod_label_app_kubernetes_io_name: 'weir-dataplane',
        },
      },
      { targets: ['10.0.2.101:4420'], labels: { __meta_kubernetes_pod_container_port_name: '' } },
    ]);
  });

  it('finds the pods behind a service by the port that the service has', () => {
    const service: Service = {
      metadata: { name: 'metrics', namespace: 'storage', labels: { app: 'operator' } },
    };
    const slice: EndpointSlice = {
      metadata: {
        name: 'metrics-x',
        namespace: 'storage',
        labels: { 'kubernetes.io/service-name': 'metrics' },
      },
      ports: [{ name: 'metrics', port: 9810 }],
      endpoints: [{ targetRef: { kind: 'Pod', name: 'one' } }, {}],
    };
    expect(endpointTargets(pods, [slice], [service])).toMatchObject([
      {
        targets: ['10.0.2.101:9810'],
        labels: {
          __meta_kubernetes_endpoint_port_name: 'metrics',
          __meta_kubernetes_service_name: 'metrics',
          __meta_kubernetes_service_label_app: 'operator',
          __meta_kubernetes_pod_name: 'one',
        },
      },
    ]);
    expect(endpointTargets(pods, [slice], [])).toEqual([]);
  });
});
