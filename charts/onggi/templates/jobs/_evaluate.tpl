{{- /*
    The second step: it waits until vLLM serves and judges there, on the base and precision that people get.
    It asks for no card. Control, or k8s/jobs, adds the version and its rows (EVALUATE_*).
*/}}
{{- define "onggi.jobs.evaluate" -}}
{{- $jobs := .Values.jobs -}}
{{- $me := dict "root" . "component" "jobs" "values" (omit $jobs "runtimeClassName") -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "onggi.fullname" . }}-evaluate
  labels:
    {{- include "onggi.labels" $me | nindent 4 }}
    onggi.dev/step: evaluate
spec:
  # The wait for vLLM, and four hours for the judging itself.
  {{- include "onggi.jobs.policy" (dict "root" . "deadline" (add $jobs.evaluate.waitSeconds 14400)) | nindent 2 }}
  template:
    metadata:
      labels:
        {{- include "onggi.labels" $me | nindent 8 }}
        onggi.dev/step: evaluate
    spec:
      {{- include "onggi.pod" $me | nindent 6 }}
      restartPolicy: Never
      initContainers:
        - {{- include "onggi.jobs.fetch" $me | nindent 10 }}
      containers:
        - name: evaluate
          {{- include "onggi.image.lines" $me | nindent 10 }}
          command: [python, -m, jobs.evaluate]
          {{- include "onggi.jobs.envFrom" . | nindent 10 }}
          env:
            {{- include "onggi.env.base" (dict "root" . "values" $jobs) | nindent 12 }}
            {{- include "onggi.jobs.secrets" $me | nindent 12 }}
            {{- if .Values.vllm.external.existingSecret }}
            {{- include "onggi.env.secret" (dict "root" . "key" "UPSTREAM_API_KEY") | nindent 12 }}
            {{- end }}
            - {name: MODEL_CACHE_DIR, value: /models}
            - {name: EVALUATE_OUTPUT, value: /work/evaluation}
            - {name: EVALUATE_WAIT, value: {{ $jobs.evaluate.waitSeconds | quote }}}
          {{- include "onggi.container" . | nindent 10 }}
          terminationMessagePolicy: FallbackToLogsOnError
          resources:
            {{- toYaml $jobs.evaluate.resources | nindent 12 }}
          volumeMounts:
            {{- include "onggi.jobs.mounts" $me | nindent 12 }}
      volumes:
        {{- include "onggi.jobs.volumes" $me | nindent 8 }}
{{- end }}
