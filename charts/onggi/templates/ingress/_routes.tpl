{{- /*
    Which path goes where, as JSON, longest first; /metrics is in none, and the page behind "/" has none.
*/}}
{{- define "onggi.routes" -}}
{{- $routes := list -}}
{{- if .Values.control.enabled -}}
{{- range list "/v1/fine_tuning" "/v1/files" "/onggi" "/admin" -}}
{{- $routes = append $routes (dict "path" . "service" (printf "%s-control" (include "onggi.fullname" $)) "port" 8080) -}}
{{- end -}}
{{- end -}}
{{- if .Values.gateway.enabled -}}
{{- range list "/openapi.json" "/docs" "/v1" -}}
{{- $routes = append $routes (dict "path" . "service" (printf "%s-gateway" (include "onggi.fullname" $)) "port" 8080) -}}
{{- end -}}
{{- end -}}
{{- if .Values.ui.enabled -}}
{{- $routes = append $routes (dict "path" "/" "service" (printf "%s-ui" (include "onggi.fullname" .)) "port" 7860) -}}
{{- end -}}
{{- toJson $routes -}}
{{- end }}
