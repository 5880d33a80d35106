{{- /* Rules of NetworkPolicies. Each is one item of `ingress:` (from) or `egress:` (to). */}}

{{- /* What a policy is about. Takes (dict "root" $ "component" "gateway"). */}}
{{- define "onggi.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "onggi.fullname" .root }}-{{ .component }}
  labels:
    {{- include "onggi.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "onggi.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end }}

{{- /* Pods of other components. Takes (dict "root" $ "way" "from" "components" (list "ui") "port" 8080). */}}
{{- define "onggi.rule.components" -}}
{{- $root := .root -}}
- {{ .way }}:
    {{- range .components }}
    - podSelector:
        matchLabels:
          {{- include "onggi.selector" (dict "root" $root "component" .) | nindent 10 }}
    {{- end }}
  {{- with .port }}
  ports:
    - {protocol: TCP, port: {{ . }}}
  {{- end }}
{{- end }}

{{- /* Everything in namespaces. Takes (dict "way" "from" "labels" {} "ports" (list 8080)). */}}
{{- define "onggi.rule.namespaces" -}}
- {{ .way }}:
    - namespaceSelector:
        matchLabels:
          {{- toYaml .labels | nindent 10 }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{- /* Addresses outside. Takes (dict "cidrs" (list) "except" (list) "ports" (list)); nothing without a CIDR. */}}
{{- define "onggi.rule.addresses" -}}
{{- $except := .except -}}
{{- if .cidrs -}}
- to:
    {{- range .cidrs }}
    - ipBlock:
        cidr: {{ . }}
        {{- with $except }}
        except: {{ toJson . }}
        {{- end }}
    {{- end }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- end }}

{{- /* The way to a part that is ours or somebody else's. Takes (dict "root" $ "to" "s3"). */}}
{{- define "onggi.rule.to" -}}
{{- $part := get (dict
  "postgresql" (dict "ours" (include "onggi.bundled.postgresql" .root) "component" "store-postgresql" "port" 5432)
  "s3" (dict "ours" (include "onggi.bundled.s3" .root) "component" "store-s3" "port" 8333)
  "mlflow" (dict "ours" .root.Values.mlflow.enabled "component" "mlflow" "port" 5050)
  "vllm" (dict "ours" .root.Values.vllm.enabled "component" "vllm" "port" 8000)) .to -}}
{{- if $part.ours -}}
{{- include "onggi.rule.components" (dict "root" .root "way" "to" "components" (list $part.component) "port" $part.port) -}}
{{- else -}}
{{- $external := get .root.Values.networkPolicy.external .to -}}
{{- include "onggi.rule.addresses" $external -}}
{{- with $external.namespaceLabels }}
{{ include "onggi.rule.namespaces" (dict "way" "to" "labels" . "ports" $external.ports) }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "onggi.rule.monitoring" -}}
{{- include "onggi.rule.namespaces" (dict "way" "from" "labels" .root.Values.networkPolicy.monitoring.namespaceLabels "ports" (list .port)) -}}
{{- end }}

{{- define "onggi.rule.ingress" -}}
{{- include "onggi.rule.namespaces" (dict "way" "from" "labels" .root.Values.networkPolicy.ingressController.namespaceLabels "ports" (list .port)) -}}
{{- end }}

{{- /* Installations in other namespaces that serve what this one trains. */}}
{{- define "onggi.rule.readers" -}}
{{- range .root.Values.networkPolicy.readers }}
{{ include "onggi.rule.namespaces" (dict "way" "from" "labels" .namespaceLabels "ports" (list $.port)) }}
{{- end }}
{{- end }}
