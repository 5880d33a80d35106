{{- /* Secrets: which holds what, and values that are generated once and found again. */}}

{{- /* The concern that a key belongs to; each is one Secret. */}}
{{- define "onggi.secret.of" -}}
{{- if has . (list "JWT_SECRET_KEY" "ADMIN_PASSWORD" "API_KEY" "CONTROL_TOKEN") }}platform
{{- else if hasPrefix "AWS_" . }}s3
{{- else if eq "HUGGINGFACE_TOKEN" . }}huggingface
{{- else if eq "UPSTREAM_API_KEY" . }}upstream
{{- else }}postgresql
{{- end -}}
{{- end }}

{{- /* The value that names an existing Secret. Takes (dict "root" $ "of" "s3"). */}}
{{- define "onggi.secret.key" -}}
{{- get (dict
  "platform" "secrets.existingSecret"
  "postgresql" "store.postgresql.existingSecret"
  "s3" "store.s3.existingSecret"
  "huggingface" "huggingface.existingSecret"
  "upstream" "vllm.external.existingSecret") .of -}}
{{- end }}

{{- define "onggi.secret.existing" -}}
{{- $values := .root.Values -}}
{{- get (dict
  "platform" $values.secrets.existingSecret
  "postgresql" $values.store.postgresql.existingSecret
  "s3" $values.store.s3.existingSecret
  "huggingface" $values.huggingface.existingSecret
  "upstream" $values.vllm.external.existingSecret) .of -}}
{{- end }}

{{- define "onggi.secret.own" -}}
{{- $suffix := get (dict "platform" "secrets" "postgresql" "store-postgresql" "s3" "store-s3") .of | default .of -}}
{{ include "onggi.fullname" .root }}-{{ $suffix }}
{{- end }}

{{- define "onggi.secret.name" -}}
{{- include "onggi.secret.existing" . | default (include "onggi.secret.own" .) -}}
{{- end }}

{{- /*
    The generated values of a Secret as JSON: those that the cluster holds already, else new ones, made once
    for all templates of a render. Takes (dict "root" $ "of" "s3" "keys" (list "AWS_ACCESS_KEY_ID")).
*/}}
{{- define "onggi.secret.generated" -}}
{{- $name := include "onggi.secret.own" . -}}
{{- if not (hasKey .root "generated") }}{{ $_ := set .root "generated" dict }}{{ end -}}
{{- if not (hasKey .root.generated $name) -}}
{{- $held := (lookup "v1" "Secret" .root.Release.Namespace $name).data | default dict -}}
{{- if not $held }}{{ include "onggi.secret.mayGenerate" . }}{{ end -}}
{{- $values := dict -}}
{{- range .keys }}{{ $_ := set $values . (get $held . | b64dec | default (randAlphaNum 40)) }}{{ end -}}
{{- $_ := set .root.generated $name $values -}}
{{- end -}}
{{- get .root.generated $name | toJson -}}
{{- end }}

{{- /*
    New values may be made only where a look-up would have found old ones: with an API server, which is known
    by the aggregation API that each serves and that `helm template` does not list; and not for a volume that
    an earlier installation has left, which opens with the old ones alone.
*/}}
{{- define "onggi.secret.mayGenerate" -}}
{{- $name := include "onggi.secret.own" . -}}
{{- if not (.root.Capabilities.APIVersions.Has "apiregistration.k8s.io/v1") -}}
{{- fail (printf "%s is empty, and without a cluster nobody can look whether Secret %s is there already: name an existing Secret (-f values/ci.yaml does, for checks)" (include "onggi.secret.key" .) $name) -}}
{{- end -}}
{{- $claim := printf "data-%s-0" $name -}}
{{- if and (has .of (list "postgresql" "s3")) (lookup "v1" "PersistentVolumeClaim" .root.Release.Namespace $claim) -}}
{{- fail (printf "volume claim %s is left from an earlier installation, but Secret %s that opens it is gone: restore that Secret, or name one in %s, or delete the claim and its data" $claim $name (include "onggi.secret.key" .)) -}}
{{- end -}}
{{- end }}

{{- define "onggi.secret.platform" -}}
{{- include "onggi.secret.generated" (dict "root" . "of" "platform" "keys" (list "JWT_SECRET_KEY" "ADMIN_PASSWORD" "API_KEY" "CONTROL_TOKEN")) -}}
{{- end }}

{{- define "onggi.secret.s3" -}}
{{- include "onggi.secret.generated" (dict "root" . "of" "s3" "keys" (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY")) -}}
{{- end }}

{{- define "onggi.secret.postgresql" -}}
{{- include "onggi.secret.generated" (dict "root" . "of" "postgresql" "keys" (list "POSTGRES_PASSWORD" "MLFLOW_POSTGRES_PASSWORD")) -}}
{{- end }}

{{- define "onggi.secret.huggingface" -}}
{{- dict "HUGGINGFACE_TOKEN" .Values.huggingface.token | toJson -}}
{{- end }}

{{- /*
    Annotations that start a component's pods again when a Secret that they read has changed.
    Takes (dict "root" $ "of" (list "platform")).
*/}}
{{- define "onggi.secret.checksums" -}}
{{- $root := .root -}}
{{- $lines := list -}}
{{- range .of -}}
{{- $existing := include "onggi.secret.existing" (dict "root" $root "of" .) -}}
{{- $content := "" -}}
{{- if $existing -}}
{{- $content = (lookup "v1" "Secret" $root.Release.Namespace $existing).data | toJson -}}
{{- else if ne . "upstream" -}}
{{- $content = include (printf "onggi.secret.%s" .) $root -}}
{{- end -}}
{{- $lines = append $lines (printf "checksum/secret-%s: %s" . (printf "%s%s" $existing $content | sha256sum)) -}}
{{- end -}}
{{- join "\n" $lines -}}
{{- end }}
