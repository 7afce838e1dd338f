/** What the chart's values may be: helm/weir/values.schema.json is generated from here, and helm refuses all else. */
import { z } from 'zod';

const switchSchema = (what: string) => z.strictObject({ enabled: z.boolean().describe(what) }).describe(what);

const logLevelSchema = z
  .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'])
  .describe('Least severe level that is logged.');

/** Ports below are the system's. */
const portSchema = z.int().min(1024).max(65535);

const durationSchema = z.string().regex(/^([0-9]+(ms|s|m|h|d))+$/);

const quantitySchema = z.union([
  z.string().regex(/^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$/),
  z.number().positive(),
]);

const stringsSchema = z.record(z.string(), z.string());

/** Absolute paths that do not climb; a comma would end one in the operator's arguments. */
const directoriesSchema = z
  .array(
    z
      .string()
      .regex(/^\/[^,]*$/)
      .refine((path) => !path.split('/').includes('..'))
      .meta({ not: { pattern: '(^|/)\\.\\.(/|$)' } }),
  )
  .min(1)
  .meta({ uniqueItems: true });

const alertChangeSchema = z.strictObject({
  enabled: z.boolean().optional().describe('false: the alert is left out.'),
  severity: z.string().min(1).optional().describe('Label severity.'),
  for: durationSchema.optional().describe('How long it must be so before the alert fires.'),
  window: durationSchema.optional().describe('How far back it looks.'),
});

/** Every value of the chart. */
export const valuesSchema = z
  .strictObject({
    global: z.looseObject({}).optional().describe('Taken and ignored: charts that contain this one set it.'),
    fullnameOverride: z.string().max(63).optional().describe("Name of the operator's objects."),
    image: z
      .strictObject({
        repository: z.string().min(1).describe('Image of operator and dataplane, without tag.'),
        tag: z.string().optional().describe("Tag; the chart's appVersion when empty."),
        digest: z
          .string()
          .regex(/^(sha256:[0-9a-f]{64})?$/)
          .optional()
          .describe('Digest; wins over the tag.'),
        pullPolicy: z.enum(['Always', 'IfNotPresent', 'Never']).describe('When the image is pulled.'),
      })
      .describe('The one image.'),
    imagePullSecrets: z.array(z.string().min(1)).optional().describe('Names of Secrets with credentials.'),
    operator: z
      .strictObject({
        replicas: z.int().min(0).max(5).optional().describe('One works, the others stand by.'),
        logLevel: logLevelSchema.optional(),
        resources: z.looseObject({}).optional().describe('Requests and limits of the container.'),
        nodeSelector: stringsSchema.optional().describe('Labels of the nodes that it may run on.'),
        tolerations: z.array(z.looseObject({})).optional().describe('Taints that it tolerates.'),
        affinity: z.looseObject({}).optional().describe('Affinity, as in a pod.'),
        topologySpreadConstraints: z
          .array(z.looseObject({}))
          .optional()
          .describe('How replicas spread; over nodes as far as possible when empty.'),
        priorityClassName: z.string().optional().describe('Priority class; the default one when empty.'),
        podAnnotations: stringsSchema.optional().describe('Annotations of its pods.'),
        podDisruptionBudget: switchSchema('At most one replica is evicted at a time.').optional(),
        metricsPort: portSchema.optional().describe('Port of /metrics, /healthz and /readyz.'),
      })
      .optional()
      .describe('The operator.'),
    dataplane: z
      .strictObject({
        deviceAccess: z
          .enum(['DevicePlugin', 'ResourceClaim', 'HostDevices', 'Privileged'])
          .optional()
          .describe('How containers may open RDMA devices.'),
        deviceResource: z
          .string()
          .regex(/^[a-z0-9.-]+\/[A-Za-z0-9._-]+$/)
          .optional()
          .describe('Extended resource that a device plugin offers.'),
        deviceClassName: z
          .string()
          .max(253)
          .regex(/^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$/)
          .optional()
          .describe('DeviceClass of the claims, for ResourceClaim.'),
        resources: z
          .strictObject({
            requests: z
              .strictObject({
                cpu: quantitySchema.optional().describe('CPU.'),
                memory: quantitySchema.optional().describe('Memory.'),
              })
              .optional()
              .describe('What each pod is guaranteed.'),
          })
          .optional()
          .describe('Resources of pods whose target asks for none.'),
        seccompProfile: z
          .string()
          .regex(/^(RuntimeDefault|Unconfined|Localhost\/[^/].*)$/)
          .optional()
          .describe('Seccomp profile of the containers.'),
        logLevel: logLevelSchema.optional(),
        priorityClassName: z.string().optional().describe('Priority class of pods whose target names none.'),
        portRange: z
          .strictObject({
            first: portSchema.describe('First port.'),
            last: portSchema.describe('Last port.'),
          })
          .optional()
          .describe('Ports for metrics and health, one for each target of a node.'),
        fileDirectories: directoriesSchema
          .optional()
          .describe('Directories of the nodes below which targets may keep files.'),
        deviceDirectories: directoriesSchema
          .optional()
          .describe('Directories of the nodes below which targets may take block devices.'),
      })
      .optional()
      .describe('The pods that serve targets.'),
    crds: z
      .strictObject({ install: z.boolean().optional().describe('CRDs are installed and upgraded.') })
      .optional()
      .describe('The CRDs.'),
    admissionPolicy: switchSchema('Dataplanes and operator may write what is theirs only.').optional(),
    metrics: z
      .strictObject({
        authentication: switchSchema('Metrics are for accounts that may get /metrics.').optional(),
        tls: z
          .strictObject({
            secretName: z.string().max(253).optional().describe('Secret with tls.crt, tls.key and ca.crt.'),
            serverName: z.string().max(253).optional().describe('Name in the certificate.'),
          })
          .optional()
          .describe('HTTPS for the endpoints.'),
      })
      .optional()
      .describe('How metrics are protected.'),
    networkPolicy: z
      .strictObject({
        enabled: z.boolean().optional().describe("A NetworkPolicy confines the operator's pods."),
        metricsFrom: z.array(z.looseObject({})).optional().describe('Who may read its metrics.'),
        apiServerPorts: z
          .array(z.int().min(1).max(65535))
          .min(1)
          .optional()
          .describe('Ports of the API server.'),
      })
      .optional()
      .describe("The operator's network."),
    test: z
      .strictObject({
        targets: z
          .array(z.string().regex(/^[a-z0-9-]+\/[a-z0-9.-]+$/))
          .optional()
          .describe('NvmeofTargets that must be serving, as NAMESPACE/NAME.'),
        timeoutSeconds: z.int().min(1).max(3600).optional().describe('Longest wait of each check.'),
      })
      .optional()
      .describe('What helm test looks at.'),
    monitoring: z
      .strictObject({
        serviceMonitor: switchSchema('A ServiceMonitor for the operator.').optional(),
        podMonitor: switchSchema('A PodMonitor for the dataplanes.').optional(),
        prometheusRule: switchSchema('The alerts.').optional(),
        grafanaDashboards: switchSchema('The ConfigMaps are made.')
          .extend({
            labels: stringsSchema.optional().describe('Labels that Grafana finds dashboards by.'),
            annotations: stringsSchema.optional().describe('Annotations, such as the folder in Grafana.'),
          })
          .describe('ConfigMaps with dashboards for Grafana.')
          .optional(),
        interval: z
          .string()
          .regex(/^[0-9]+(ms|s|m)$/)
          .optional()
          .describe('Time between two scrapes.'),
        labels: stringsSchema.optional().describe('Labels that Prometheus selects by.'),
        bearerTokenSecret: z
          .strictObject({
            name: z.string().max(253).optional().describe('Name of the Secret.'),
            key: z.string().min(1).optional().describe('Key of the token in it.'),
          })
          .optional()
          .describe('The token that Prometheus shows.'),
      })
      .optional()
      .describe('Prometheus and Grafana.'),
    alerts: z
      .strictObject({
        runbookBaseURL: z
          .string()
          .regex(/^(https?:\/\/[^\s]+)?$/)
          .optional()
          .describe('Where the runbooks are.'),
        rules: z
          .record(z.string(), alertChangeSchema)
          .optional()
          .describe('Changes to single alerts, by name.'),
      })
      .optional()
      .describe('The alerts.'),
  })
  .meta({ title: 'Values of the weir chart' });

/** Path of the file in the repository, and its content. */
export function valuesSchemaFile(): readonly [string, string] {
  const schema = z.toJSONSchema(valuesSchema, { target: 'draft-7', io: 'input' });
  return ['helm/weir/values.schema.json', `${JSON.stringify(schema, undefined, 2)}\n`];
}
