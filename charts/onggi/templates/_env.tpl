{{- /* Environment variables; their names are the settings that each process reads. */}}

{{- /* What every container of ours gets. Takes (dict "root" $ "values" .Values.gateway). */}}
{{- define "onggi.env.base" -}}
- {name: HOME, value: /home/onggi}
{{- if .root.Values.global.caBundle.configMap }}
{{- range list "SSL_CERT_FILE" "REQUESTS_CA_BUNDLE" "AWS_CA_BUNDLE" "PIP_CERT" }}
- {name: {{ . }}, value: /etc/onggi/ca/ca.crt}
{{- end }}
{{- end }}
{{- with .root.Values.global.tracing.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- range $name, $value := (.values | default dict).env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- /* The object store: address and keys. Takes (dict "root" $); nothing where there is none. */}}
{{- define "onggi.env.store" -}}
{{- if include "onggi.has.s3" .root -}}
- {name: STORE_URL, value: {{ printf "s3://%s" .root.Values.store.s3.bucket | quote }}}
- {name: AWS_REGION, value: {{ .root.Values.store.s3.region | quote }}}
{{- with include "onggi.url.s3" .root }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{ include "onggi.env.secret" (dict "root" .root "key" "AWS_ACCESS_KEY_ID") }}
{{ include "onggi.env.secret" (dict "root" .root "key" "AWS_SECRET_ACCESS_KEY") }}
{{- end }}
{{- end }}

{{- /* What fetches a model from the hub. Takes (dict "root" $). */}}
{{- define "onggi.env.hub" -}}
- {name: MODEL_CACHE_DIR, value: /models}
{{- with .root.Values.global.hub }}
{{- if .offline }}
- {name: OFFLINE_MODE, value: "true"}
{{- end }}
{{- with .endpoint }}
- {name: HF_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- if or .root.Values.huggingface.token .root.Values.huggingface.existingSecret }}
{{ include "onggi.env.secret" (dict "root" .root "key" "HUGGINGFACE_TOKEN") }}
{{- end }}
{{- end }}

{{- /* One variable from the Secret that holds it. Takes (dict "root" $ "key" "API_KEY"), "as" for another name. */}}
{{- define "onggi.env.secret" -}}
- name: {{ .as | default .key }}
  valueFrom:
    secretKeyRef:
      name: {{ include "onggi.secret.name" (dict "root" .root "of" (include "onggi.secret.of" .key)) }}
      key: {{ .key }}
{{- end }}
