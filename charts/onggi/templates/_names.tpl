{{- /* Names and labels of everything that this chart makes. */}}

{{- /* The prefix of every name: the release's name where it says onggi already. */}}
{{- define "onggi.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-onggi" .Release.Name) (contains "onggi" .Release.Name) -}}
{{- .Values.fullnameOverride | default $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- /* What selects a component's pods. Takes (dict "root" $ "component" "gateway"). */}}
{{- define "onggi.selector" -}}
app.kubernetes.io/name: onggi
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* All labels of a component's objects and pods. Takes the same. */}}
{{- define "onggi.labels" -}}
{{- if not (hasKey .root "checked") }}{{ $_ := set .root "checked" true }}{{ include "onggi.check" .root }}{{ end -}}
{{ include "onggi.selector" . }}
app.kubernetes.io/part-of: onggi
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- /* PriorityClasses belong to the whole cluster. Takes (dict "root" $ "of" "serving"). */}}
{{- define "onggi.priorityClass" -}}
{{ include "onggi.fullname" .root }}-{{ .root.Release.Namespace }}-{{ .of }}
{{- end }}

{{- /* Addresses inside the cluster, or those of what runs elsewhere. */}}
{{- define "onggi.url.gateway" -}}
http://{{ include "onggi.fullname" . }}-gateway:8080
{{- end }}

{{- define "onggi.url.control" -}}
http://{{ include "onggi.fullname" . }}-control:8080
{{- end }}

{{- define "onggi.url.vllm" -}}
{{- ternary (printf "http://%s-vllm:8000/v1" (include "onggi.fullname" .)) .Values.vllm.external.url .Values.vllm.enabled -}}
{{- end }}

{{- define "onggi.url.mlflow" -}}
{{- ternary (printf "http://%s-mlflow:5050" (include "onggi.fullname" .)) .Values.mlflow.url .Values.mlflow.enabled -}}
{{- end }}

{{- define "onggi.url.s3" -}}
{{- $bundled := include "onggi.bundled.s3" . -}}
{{- ternary (printf "http://%s-store-s3:8333" (include "onggi.fullname" .)) .Values.store.s3.endpoint (not (empty $bundled)) -}}
{{- end }}

{{- /* "true" where the store's part is ours, "" where it is somebody else's or not there. */}}
{{- define "onggi.bundled.postgresql" -}}
{{- if and .Values.store.enabled .Values.store.postgresql.enabled }}true{{ end -}}
{{- end }}

{{- define "onggi.bundled.s3" -}}
{{- if and .Values.store.enabled .Values.store.s3.enabled }}true{{ end -}}
{{- end }}

{{- /* "true" where there is a database, or an object store, ours or not. */}}
{{- define "onggi.has.postgresql" -}}
{{- if or (include "onggi.bundled.postgresql" .) .Values.store.postgresql.existingSecret }}true{{ end -}}
{{- end }}

{{- define "onggi.has.s3" -}}
{{- if or (include "onggi.bundled.s3" .) .Values.store.s3.existingSecret }}true{{ end -}}
{{- end }}

{{- /* "true" where the cluster serves what is asked for. */}}
{{- define "onggi.has.customMetrics" -}}
{{- $apis := .Capabilities.APIVersions -}}
{{- if or ($apis.Has "custom.metrics.k8s.io/v1beta1") ($apis.Has "custom.metrics.k8s.io/v1beta2") }}true{{ end -}}
{{- end }}

{{- define "onggi.has.monitors" -}}
{{- if and .Values.monitoring.enabled (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1") }}true{{ end -}}
{{- end }}

{{- define "onggi.has.httpRoutes" -}}
{{- if and .Values.httpRoute.enabled (.Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1") }}true{{ end -}}
{{- end }}
