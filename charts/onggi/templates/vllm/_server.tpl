{{- /* Servers of vllm.servers: what each says, over vllm.defaults. */}}

{{- /*
    One server's values as JSON; `model`, written hub/id@revision, becomes its two parts.
    Takes (dict "root" $ "name" "main").
*/}}
{{- define "onggi.vllm.server" -}}
{{- $server := mustMergeOverwrite (deepCopy .root.Values.vllm.defaults) (deepCopy (get .root.Values.vllm.servers .name)) -}}
{{- $parts := splitn "@" 2 $server.model -}}
{{- $_ := set $server "model" (dict "name" $parts._0 "revision" ($parts._1 | default "")) -}}
{{- toJson $server -}}
{{- end }}

{{- define "onggi.vllm.name" -}}
{{ include "onggi.fullname" .root }}-vllm-{{ .name }}
{{- end }}

{{- define "onggi.vllm.claim" -}}
{{- .server.modelCache.existingClaim | default (printf "%s-models" (include "onggi.vllm.name" .)) -}}
{{- end }}

{{- /* Every base model that is served, for control: its name is the last part of its hub id. */}}
{{- define "onggi.vllm.bases" -}}
{{- $bases := list -}}
{{- if .Values.vllm.enabled -}}
{{- range $name, $_ := .Values.vllm.servers -}}
{{- $server := fromJson (include "onggi.vllm.server" (dict "root" $ "name" $name)) -}}
{{- with $server.model -}}
{{- $bases = append $bases (dict "name" (base .name) "source" .name "revision" .revision "max_rank" (int $server.maxLoraRank)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $bases -}}
{{- end }}

{{- /* The card: memory is what must be there (5060 Ti come with 8 and with 16 GB), the product what is preferred. */}}
{{- define "onggi.gpu.affinity" -}}
{{- if or .gpu.memoryMiB .gpu.product -}}
affinity:
  nodeAffinity:
    {{- with .gpu.memoryMiB }}
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - {key: nvidia.com/gpu.memory, operator: Gt, values: [{{ sub . 1 | quote }}]}
    {{- end }}
    {{- with .gpu.product }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        preference:
          matchExpressions:
            - {key: nvidia.com/gpu.product, operator: In, values: [{{ . | quote }}]}
    {{- end }}
{{- end }}
{{- end }}

{{- /* What services/vllm/settings.py reads. Takes (dict "root" $ "server" $server). */}}
{{- define "onggi.vllm.env" -}}
{{ include "onggi.env.base" (dict "root" .root "values" .server) }}
- {name: MODEL, value: {{ .server.model.name | quote }}}
- {name: MODEL_CACHE_DIR, value: /models}
- {name: VLLM_HOST, value: 0.0.0.0}
- {name: VLLM_PORT, value: "8000"}
{{- with .server.maxModelLen }}
- {name: MAX_MODEL_LEN, value: {{ . | quote }}}
{{- end }}
- {name: MAX_LORAS, value: {{ .server.maxLoras | quote }}}
- {name: MAX_LORA_RANK, value: {{ .server.maxLoraRank | quote }}}
- {name: MAX_CPU_LORAS, value: {{ .server.maxCpuLoras | quote }}}
- {name: SHUTDOWN_SECONDS, value: {{ .server.shutdownSeconds | quote }}}
{{ include "onggi.env.store" . }}
{{- end }}

{{- /* The init container that puts the base model into the cache, where it is not there already. */}}
{{- define "onggi.vllm.download" -}}
name: download
{{ include "onggi.image.lines" (dict "root" .root "component" "jobs") }}
command:
  - python
  - -m
  - jobs.download
  - {{ .server.model.name | quote }}
  {{- with .server.model.revision }}
  - --revision
  - {{ . | quote }}
  {{- end }}
env:
  {{- include "onggi.env.base" (dict "root" .root "values" .server) | nindent 2 }}
  {{- include "onggi.env.hub" . | nindent 2 }}
{{ include "onggi.container" . }}
resources:
  requests: {cpu: 100m, memory: 512Mi}
  limits: {cpu: "2", memory: 4Gi}
volumeMounts:
  {{- include "onggi.scratch.mounts" (dict "root" .root) | nindent 2 }}
  - {name: models, mountPath: /models}
{{- end }}

{{- define "onggi.vllm.resources" -}}
{{- $resources := deepCopy .server.resources -}}
{{- with .server.gpu.count -}}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" .) $resources.limits) -}}
{{- end -}}
{{- toJson $resources -}}
{{- end }}
