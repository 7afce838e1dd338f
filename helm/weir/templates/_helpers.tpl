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
