{{- /* What every job's container reads: addresses from the ConfigMap, keys from the Secrets that hold them. */}}

{{- define "onggi.jobs.envFrom" -}}
envFrom:
  - configMapRef: {name: {{ include "onggi.fullname" . }}-jobs-env}
{{- end }}

{{- define "onggi.jobs.secrets" -}}
{{- if include "onggi.has.s3" .root -}}
{{ include "onggi.env.secret" (dict "root" .root "key" "AWS_ACCESS_KEY_ID") }}
{{ include "onggi.env.secret" (dict "root" .root "key" "AWS_SECRET_ACCESS_KEY") }}
{{- end }}
{{ include "onggi.env.secret" (dict "root" .root "key" "CONTROL_TOKEN") }}
{{- end }}

{{- /* The base model, put into the pod's cache before its step begins; control says which. */}}
{{- define "onggi.jobs.fetch" -}}
name: download
{{ include "onggi.image.lines" (dict "root" .root "component" "jobs") }}
command: [python, -m, jobs.download]
env:
  {{- include "onggi.env.base" (dict "root" .root "values" .root.Values.jobs) | nindent 2 }}
  {{- include "onggi.env.hub" . | nindent 2 }}
{{ include "onggi.container" .root }}
terminationMessagePolicy: FallbackToLogsOnError
resources:
  {{- toYaml .root.Values.jobs.download.resources | nindent 2 }}
volumeMounts:
  {{- include "onggi.scratch.mounts" (dict "root" .root) | nindent 2 }}
  - {name: models, mountPath: /models}
{{- end }}

{{- define "onggi.jobs.mounts" -}}
{{ include "onggi.scratch.mounts" . }}
- {name: models, mountPath: /models}
- {name: work, mountPath: /work}
{{- end }}

{{- define "onggi.jobs.volumes" -}}
{{ include "onggi.scratch.volumes" . }}
- name: work
  emptyDir: {}
{{ include "onggi.jobs.models" .root }}
{{- end }}

{{- /* A claim that all share, else a volume of each pod's own: one that only a node may mount would nail them to it. */}}
{{- define "onggi.jobs.models" -}}
{{- with .Values.jobs.modelCache -}}
- name: models
  {{- if .existingClaim }}
  persistentVolumeClaim: {claimName: {{ .existingClaim }}}
  {{- else }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: {storage: {{ .size }}}
  {{- end }}
{{- end }}
{{- end }}

{{- /*
    The Job's own lines. Exit code 2 is configuration or data, 3 needs a bigger GPU: another pod would end the
    same way. A pod that was preempted or drained is replaced and not counted. Takes (dict "root" $ "deadline" 60).
*/}}
{{- define "onggi.jobs.policy" -}}
activeDeadlineSeconds: {{ .deadline }}
ttlSecondsAfterFinished: {{ int .root.Values.jobs.keepSeconds }}
backoffLimit: {{ int .root.Values.jobs.backoffLimit }}
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget}]
    - action: FailJob
      onExitCodes: {operator: In, values: [2, 3]}
{{- end }}
