{{- /* What services/gateway/settings.py reads. */}}
{{- define "onggi.gateway.env" -}}
{{- $values := .root.Values -}}
{{ include "onggi.env.base" . }}
- {name: FASTAPI_HOST, value: 0.0.0.0}
- {name: FASTAPI_PORT, value: "8080"}
- {name: VLLM_BASE_URL, value: {{ include "onggi.url.vllm" .root | quote }}}
- {name: ENABLE_AUTH, value: {{ $values.gateway.enableAuth | quote }}}
- {name: DEFAULT_TEMPERATURE, value: {{ $values.gateway.defaultTemperature | quote }}}
- {name: DEFAULT_MAX_TOKENS, value: {{ $values.gateway.defaultMaxTokens | quote }}}
{{ include "onggi.env.secret" (dict "root" .root "key" "DATABASE_URL") }}
{{ include "onggi.env.secret" (dict "root" .root "key" "JWT_SECRET_KEY") }}
{{- if not $values.vllm.enabled }}
{{- with $values.vllm.external.defaultModel }}
- {name: DEFAULT_MODEL, value: {{ . | quote }}}
{{- end }}
{{- if $values.vllm.external.existingSecret }}
{{ include "onggi.env.secret" (dict "root" .root "key" "UPSTREAM_API_KEY") }}
{{- end }}
{{- end }}
{{- end }}
