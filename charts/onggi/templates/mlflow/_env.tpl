{{- /* MLflow's own settings; the files of runs go through the server, which alone has the store's keys. */}}
{{- define "onggi.mlflow.env" -}}
{{ include "onggi.env.base" . }}
{{ include "onggi.env.secret" (dict "root" .root "key" "MLFLOW_DATABASE_URL" "as" "MLFLOW_BACKEND_STORE_URI") }}
{{ include "onggi.env.store" . }}
- {name: MLFLOW_ARTIFACTS_DESTINATION, value: {{ printf "s3://%s/mlflow" .root.Values.store.s3.bucket | quote }}}
- {name: MLFLOW_SERVER_ALLOWED_HOSTS, value: {{ include "onggi.mlflow.hosts" .root | quote }}}
- {name: MLFLOW_SERVER_ENABLE_JOB_EXECUTION, value: "false"}
- {name: MLFLOW_DISABLE_TELEMETRY, value: "true"}
- {name: DO_NOT_TRACK, value: "true"}
{{- end }}
