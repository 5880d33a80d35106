{{- /*
    What jobs.retrain and jobs.promote have in common: short, no card, and only control and MLflow to talk to.
    Takes (dict "root" $ "job" "retrain" "deadline" 3600); the spec of a Job, and its variables by name.
*/}}
{{- define "onggi.jobs.scheduled" -}}
{{- $jobs := .root.Values.jobs -}}
{{- $mine := get $jobs .job -}}
{{- $me := dict "root" .root "component" "jobs" "values" (omit $jobs "runtimeClassName") -}}
{{- include "onggi.jobs.policy" . }}
template:
  metadata:
    labels:
      {{- include "onggi.labels" $me | nindent 6 }}
      onggi.dev/job: {{ .job }}
  spec:
    {{- include "onggi.pod" $me | nindent 4 }}
    restartPolicy: Never
    containers:
      - name: {{ .job }}
        {{- include "onggi.image.lines" $me | nindent 8 }}
        command: [python, -m, jobs.{{ .job }}]
        {{- include "onggi.jobs.envFrom" .root | nindent 8 }}
        env:
          {{- include "onggi.env.base" (dict "root" .root "values" $jobs) | nindent 10 }}
          {{- include "onggi.env.secret" (dict "root" .root "key" "CONTROL_TOKEN") | nindent 10 }}
          {{- include (printf "onggi.jobs.%s.env" .job) .root | nindent 10 }}
        {{- include "onggi.container" .root | nindent 8 }}
        terminationMessagePolicy: FallbackToLogsOnError
        resources:
          {{- toYaml $mine.resources | nindent 10 }}
        volumeMounts:
          {{- include "onggi.scratch.mounts" $me | nindent 10 }}
    volumes:
      {{- include "onggi.scratch.volumes" $me | nindent 6 }}
{{- end }}

{{- /* The same as a CronJob. A run that is still going on is not joined by another; two would do no harm. */}}
{{- define "onggi.jobs.cron" -}}
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {{ include "onggi.fullname" .root }}-{{ .job }}
  labels:
    {{- include "onggi.labels" (dict "root" .root "component" "jobs") | nindent 4 }}
spec:
  schedule: {{ (get .root.Values.jobs .job).schedule | quote }}
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 600
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 3
  jobTemplate:
    metadata:
      labels:
        {{- include "onggi.labels" (dict "root" .root "component" "jobs") | nindent 8 }}
    spec:
      {{- include "onggi.jobs.scheduled" . | nindent 6 }}
{{- end }}

{{- /* Seconds that one jobs.retrain may take; control gives a claim up that is older and became no fine-tune. */}}
{{- define "onggi.jobs.retrain.deadline" -}}3600{{- end }}

{{- define "onggi.jobs.retrain.env" -}}
{{- with .Values.jobs.retrain -}}
- {name: RETRAIN_MINIMUM, value: {{ int .minimum | quote }}}
- {name: RETRAIN_RECIPE, value: {{ .recipe | quote }}}
- {name: RETRAIN_QUIET_HOURS, value: {{ .quietHours | quote }}}
- {name: RETRAIN_TIMEZONE, value: {{ .timezone | quote }}}
{{- if .gpuHours }}
- {name: RETRAIN_GPU_HOURS, value: {{ int .gpuHours | quote }}}
{{- end }}
- {name: RETRAIN_UNREVIEWED, value: {{ .unreviewed | quote }}}
- {name: RETRAIN_KEEP, value: {{ .keep | toJson | quote }}}
{{- end }}
{{- end }}

{{- define "onggi.jobs.promote.env" -}}
{{- with .Values.jobs.promote -}}
- {name: PROMOTE_SHARE, value: {{ printf "%.2f" (divf .sharePercent 100) | quote }}}
- {name: PROMOTE_DAYS, value: {{ int .days | quote }}}
- {name: PROMOTE_SHADOW, value: {{ int .shadow | quote }}}
{{- end }}
{{- end }}

{{- /* The Job that control makes when a person asks for a retrain. */}}
{{- define "onggi.jobs.retrain" -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "onggi.fullname" . }}-retrain
  labels:
    {{- include "onggi.labels" (dict "root" . "component" "jobs") | nindent 4 }}
spec:
  {{- $deadline := include "onggi.jobs.retrain.deadline" . }}
  {{- include "onggi.jobs.scheduled" (dict "root" . "job" "retrain" "deadline" $deadline) | nindent 2 }}
{{- end }}
