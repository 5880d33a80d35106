{{- /* Puts a base model into a claim that Jobs and servers share (DOWNLOAD_*), so that none waits for the hub. */}}
{{- define "onggi.jobs.download" -}}
{{- $jobs := .Values.jobs -}}
{{- $me := dict "root" . "component" "jobs" "values" (omit $jobs "runtimeClassName") -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "onggi.fullname" . }}-download
  labels:
    {{- include "onggi.labels" $me | nindent 4 }}
spec:
  {{- include "onggi.jobs.policy" (dict "root" . "deadline" 86400) | nindent 2 }}
  template:
    metadata:
      labels:
        {{- include "onggi.labels" $me | nindent 8 }}
    spec:
      {{- include "onggi.pod" $me | nindent 6 }}
      restartPolicy: Never
      containers:
        - {{- include "onggi.jobs.fetch" $me | nindent 10 }}
      volumes:
        {{- include "onggi.scratch.volumes" $me | nindent 8 }}
        {{- include "onggi.jobs.models" . | nindent 8 }}
{{- end }}
