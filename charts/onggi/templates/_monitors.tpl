{{- /* Takes (dict "root" $ "component" "gateway" "port" "http"). */}}
{{- define "onggi.monitor.metadata" -}}
metadata:
  name: {{ include "onggi.fullname" .root }}-{{ .component }}
  labels:
    {{- include "onggi.labels" . | nindent 4 }}
    {{- with .root.Values.monitoring.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "onggi.serviceMonitor" -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
{{ include "onggi.monitor.metadata" . }}
spec:
  selector:
    matchLabels:
      {{- include "onggi.selector" . | nindent 6 }}
  endpoints:
    - port: {{ .port }}
      path: /metrics
      interval: {{ .root.Values.monitoring.interval }}
{{- end }}
