{{- /*
    Values that the schema cannot refuse because they are wrong only together. Every sentence names its key.
    `onggi.labels` asks for this, so that it comes before anything else is rendered.
*/}}

{{- define "onggi.check" -}}
{{- range (list "images" "database" "store" "vllm" "servers" "training" "pages" "ingress" "secrets") -}}
{{- include (printf "onggi.check.%s" .) $ -}}
{{- end -}}
{{- end }}

{{- define "onggi.check.images" -}}
{{- if not (or .Values.global.imageRegistry .Values.global.localImages) -}}
{{- fail "global.imageRegistry is empty: push the images with `make images-push REGISTRY=registry.example.com/team` and set global.imageRegistry to that; or put them on this machine's cluster with `make images-load` and set global.localImages=true" -}}
{{- end -}}
{{- if and .Values.huggingface.token .Values.huggingface.existingSecret -}}
{{- fail "huggingface.token and huggingface.existingSecret are both set: leave one empty" -}}
{{- end -}}
{{- end }}

{{- define "onggi.check.database" -}}
{{- if and (or .Values.gateway.enabled .Values.control.enabled .Values.mlflow.enabled) (not (include "onggi.has.postgresql" .)) -}}
{{- fail "store.postgresql.existingSecret is empty and the bundled PostgreSQL is off: name a Secret with DATABASE_URL and MLFLOW_DATABASE_URL, or set store.postgresql.enabled=true" -}}
{{- end -}}
{{- end }}

{{- define "onggi.check.store" -}}
{{- if and (or .Values.control.enabled .Values.mlflow.enabled) (not (include "onggi.has.s3" .)) -}}
{{- fail "store.s3.existingSecret is empty and the bundled object store is off: name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and store.s3.endpoint, unless it is AWS), or set store.s3.enabled=true" -}}
{{- end -}}
{{- end }}

{{- define "onggi.check.vllm" -}}
{{- if and .Values.vllm.enabled (not .Values.vllm.servers) -}}
{{- fail "vllm.servers is empty: start from a profile (-f charts/onggi/values/rtx5090.yaml, rtx5060ti.yaml, both.yaml or cpu.yaml), or name a server and its model" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not (include "onggi.url.vllm" .)) -}}
{{- fail "vllm.external.url is empty and vllm.enabled is false: the gateway needs one of them" -}}
{{- end -}}
{{- end }}

{{- define "onggi.check.servers" -}}
{{- range $name, $server := .Values.vllm.servers -}}
{{- $server = fromJson (include "onggi.vllm.server" (dict "root" $ "name" $name)) -}}
{{- if not $server.model.name -}}
{{- fail (printf "vllm.servers.%s.model is empty: give a hub id and its revision, such as Qwen/Qwen2.5-7B-Instruct@a09a35458c702b33eeacc393d103063234e8bc28" $name) -}}
{{- end -}}
{{- $most := ternary $server.autoscaling.maxReplicas $server.replicas $server.autoscaling.enabled | int -}}
{{- if and $server.gpu.count (gt (mul $most $server.gpu.count) (int $server.gpu.cards)) -}}
{{- fail (printf "vllm.servers.%s may grow to %d replicas of %d card(s) each, and gpu.cards says %d: raise gpu.cards to what the cluster has, or lower its replicas" $name $most (int $server.gpu.count) (int $server.gpu.cards)) -}}
{{- end -}}
{{- if and $server.autoscaling.enabled (eq $server.autoscaling.kind "keda") (not ($.Capabilities.APIVersions.Has "keda.sh/v1alpha1")) -}}
{{- fail (printf "vllm.servers.%s.autoscaling.kind is keda, and this cluster has no KEDA: install it, or set it to hpa" $name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "onggi.check.training" -}}
{{- if and .Values.jobs.enabled (not .Values.control.enabled) -}}
{{- fail "jobs.enabled is true and control.enabled is false: control starts the jobs; switch both on or both off" -}}
{{- end -}}
{{- if and .Values.jobs.enabled (not (include "onggi.url.mlflow" .)) -}}
{{- fail "jobs.enabled is true, mlflow.enabled is false and mlflow.url is empty: training registers its versions in MLflow; set one of the two, or jobs.enabled=false" -}}
{{- end -}}
{{- end }}

{{- define "onggi.check.pages" -}}
{{- if and .Values.ui.enabled (not (and .Values.gateway.enabled .Values.control.enabled)) -}}
{{- fail "ui.enabled is true, and the chat page needs gateway.enabled and control.enabled" -}}
{{- end -}}
{{- end }}

{{- define "onggi.check.ingress" -}}
{{- with .Values.ingress -}}
{{- if and .tls.existingSecret .tls.certManager.issuer -}}
{{- fail "ingress.tls.existingSecret and ingress.tls.certManager.issuer are both set: the certificate comes from one of them; leave the other empty" -}}
{{- end -}}
{{- if and (or .tls.existingSecret .tls.certManager.issuer) (not .hosts) -}}
{{- fail "ingress.hosts is empty and ingress.tls is set: name the hosts that the certificate is for" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty: name the Gateway that the routes belong to" -}}
{{- end -}}
{{- end }}

{{- /*
    Secrets that somebody else makes have to be there first, or pods would wait for them in silence. Every
    namespace of a cluster has the ConfigMap: without it nothing can be looked up (`helm template`, a GitOps
    tool's render), and nothing is refused.
*/}}
{{- define "onggi.check.secrets" -}}
{{- if not (hasKey . "lookedForSecrets") -}}
{{- $_ := set . "lookedForSecrets" true -}}
{{- $namespace := .Release.Namespace -}}
{{- $named := dict "ingress.tls.existingSecret" (ternary .Values.ingress.tls.existingSecret "" .Values.ingress.enabled) -}}
{{- range (list "platform" "postgresql" "s3" "huggingface" "upstream") -}}
{{- $secret := dict "root" $ "of" . -}}
{{- $_ := set $named (include "onggi.secret.key" $secret) (include "onggi.secret.existing" $secret) -}}
{{- end -}}
{{- if lookup "v1" "ConfigMap" $namespace "kube-root-ca.crt" -}}
{{- range $key, $name := $named -}}
{{- if and $name (not (lookup "v1" "Secret" $namespace $name)) -}}
{{- fail (printf "%s names Secret %s, and namespace %s has none of that name: create it first" $key $name $namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
