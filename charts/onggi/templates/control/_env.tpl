{{- /* What services/control/settings.py reads. */}}
{{- define "onggi.control.env" -}}
{{- $values := .root.Values -}}
{{ include "onggi.env.base" . }}
- {name: FASTAPI_HOST, value: 0.0.0.0}
- {name: FASTAPI_PORT, value: "8080"}
- {name: ADMIN_USERNAME, value: {{ $values.control.adminUsername | quote }}}
- {name: CONTROL_URL, value: {{ include "onggi.url.control" .root | quote }}}
- {name: VLLM_BASE_URL, value: {{ include "onggi.url.vllm" .root | quote }}}
- {name: MLFLOW_TRACKING_URI, value: {{ include "onggi.url.mlflow" .root | quote }}}
{{- range list "DATABASE_URL" "JWT_SECRET_KEY" "ADMIN_PASSWORD" "API_KEY" "CONTROL_TOKEN" }}
{{ include "onggi.env.secret" (dict "root" $.root "key" .) }}
{{- end }}
{{ include "onggi.env.store" . }}
- {name: JOBS_DIR, value: /tmp/jobs}
{{- if $values.jobs.enabled }}
{{ include "onggi.control.runner" . }}
{{- else }}
- {name: RUNNER, value: none}
{{- end }}
{{- end }}

{{- define "onggi.control.runner" -}}
- {name: RUNNER, value: kubernetes}
- name: NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- {name: JOB_TEMPLATES, value: /etc/onggi/jobs}
- {name: OWNER_CONFIGMAP, value: {{ include "onggi.fullname" .root }}-owner}
- {name: GPU_DISCOVER_NODES, value: {{ .root.Values.gpu.discoverNodes | quote }}}
- {name: GPU_CLASSES, value: {{ .root.Values.gpu.classes | toJson | quote }}}
- {name: RETRAIN_MINIMUM, value: {{ int .root.Values.jobs.retrain.minimum | quote }}}
- {name: CLAIM_SECONDS, value: {{ include "onggi.jobs.retrain.deadline" .root | quote }}}
- {name: BASE_MODELS, value: {{ include "onggi.vllm.bases" .root | quote }}}
{{- end }}
