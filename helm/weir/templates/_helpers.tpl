{{/* Name of the operator's objects: the release's name, with "weir" in it once. */}}
{{- define "weir.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains "weir" .Release.Name -}}
{{- printf "%s-operator" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-weir-operator" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of cluster-scoped objects: two releases in one cluster do not collide. */}}
{{- define "weir.clusterName" -}}
{{- printf "%s-%s" (include "weir.fullname" .) .Release.Namespace | trunc 253 -}}
{{- end -}}

{{- define "weir.selectorLabels" -}}
app.kubernetes.io/name: weir-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "weir.labels" -}}
{{ include "weir.selectorLabels" . }}
app.kubernetes.io/part-of: weir
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "weir.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/*
One alert as Prometheus takes it: a file of files/alerts with the changes of the values, and the address of its runbook.
"window" is the range that its expression looks back over; Prometheus knows no such field.
*/}}
{{- define "weir.alert" -}}
{{- $rule := deepCopy .rule -}}
{{- with .change.window -}}
{{- if not $rule.window -}}
{{- fail (printf "alerts.rules.%s.window: this alert looks at the present only" $rule.alert) -}}
{{- end -}}
{{- $_ := set $rule "expr" (replace (printf "[%s]" $rule.window) (printf "[%s]" .) $rule.expr) -}}
{{- end -}}
{{- with .change.for -}}{{- $_ := set $rule "for" . -}}{{- end -}}
{{- with .change.severity -}}{{- $_ := set $rule.labels "severity" . -}}{{- end -}}
{{- $base := .base | default "docs/runbooks" | trimSuffix "/" -}}
{{- $_ := set $rule.annotations "runbook_url" (printf "%s/%s.md" $base $rule.alert) -}}
{{- toYaml (omit $rule "window") -}}
{{- end -}}

{{/* Where the Secret of metrics.tls is mounted in the operator's pods. */}}
{{- define "weir.metricsTlsDirectory" -}}/etc/weir/metrics-tls{{- end -}}

{{- define "weir.probeScheme" -}}
{{- if .Values.metrics.tls.secretName }}, scheme: HTTPS{{ end -}}
{{- end -}}

{{/* How Prometheus gets at protected metrics: part of an endpoint of a ServiceMonitor or PodMonitor. */}}
{{- define "weir.scrapeProtection" -}}
{{- with .Values.metrics.tls.secretName -}}
scheme: https
tlsConfig:
  ca: {secret: {name: {{ . }}, key: ca.crt}}
  serverName: {{ $.Values.metrics.tls.serverName | default (printf "%s-metrics.%s.svc" (include "weir.fullname" $) $.Release.Namespace) }}
{{- end }}
{{- if .Values.metrics.authentication.enabled }}
{{- if not .Values.monitoring.bearerTokenSecret.name }}
{{- fail "metrics.authentication.enabled needs monitoring.bearerTokenSecret.name, the token that Prometheus shows; or switch monitoring.serviceMonitor and podMonitor off" }}
{{- end }}
authorization:
  credentials: {name: {{ .Values.monitoring.bearerTokenSecret.name }}, key: {{ .Values.monitoring.bearerTokenSecret.key }}}
{{- end }}
{{- end -}}
