{{- /* Every name that MLflow is reached by, with and without port: it answers 403 to others (mlflow#22095). */}}
{{- define "onggi.mlflow.hosts" -}}
{{- $name := printf "%s-mlflow" (include "onggi.fullname" .) -}}
{{- $namespaced := printf "%s.%s" $name .Release.Namespace -}}
{{- $own := list $name $namespaced (printf "%s.svc" $namespaced) (printf "%s.svc.cluster.local" $namespaced) -}}
{{- $hosts := list -}}
{{- range concat $own (list "localhost" "127.0.0.1") .Values.mlflow.allowedHosts -}}
{{- $hosts = append (append $hosts .) (printf "%s:*" .) -}}
{{- end -}}
{{- join "," $hosts -}}
{{- end }}
