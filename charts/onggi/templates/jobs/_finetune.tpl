{{- /*
    The first step: it holds the card and ends by registering a version. Control, or k8s/jobs, adds what to
    train on what (FINETUNE_*), where it fits, and the marks onggi.dev/*.
*/}}
{{- define "onggi.jobs.finetune" -}}
{{- $jobs := .Values.jobs -}}
{{- $me := dict "root" . "component" "jobs" "values" $jobs "shm" "2Gi" -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "onggi.fullname" . }}-finetune
  labels:
    {{- include "onggi.labels" $me | nindent 4 }}
    onggi.dev/step: finetune
spec:
  {{- include "onggi.jobs.policy" (dict "root" . "deadline" (int $jobs.deadlineSeconds)) | nindent 2 }}
  template:
    metadata:
      labels:
        {{- include "onggi.labels" $me | nindent 8 }}
        onggi.dev/step: finetune
    spec:
      {{- include "onggi.pod" $me | nindent 6 }}
      {{- if .Values.priorityClasses.create }}
      priorityClassName: {{ include "onggi.priorityClass" (dict "root" . "of" "training") }}
      {{- end }}
      restartPolicy: Never
      initContainers:
        - {{- include "onggi.jobs.fetch" $me | nindent 10 }}
      containers:
        - name: finetune
          {{- include "onggi.image.lines" $me | nindent 10 }}
          # A trainer that is killed comes back in this pod, which keeps the card, from its last checkpoint;
          # another pod goes on from the copy in the object store.
          command:
            - python
            - -m
            - jobs.restart
            - --tries={{ int $jobs.restarts }}
            - --
            - python
            - -m
            - jobs.finetune
            - --checkpoint-store=$(STORE_URL)/jobs/$(FINETUNE_JOB_ID)
          {{- include "onggi.jobs.envFrom" . | nindent 10 }}
          env:
            {{- include "onggi.env.base" (dict "root" . "values" $jobs) | nindent 12 }}
            {{- include "onggi.jobs.secrets" $me | nindent 12 }}
            - {name: MODEL_CACHE_DIR, value: /models}
            - {name: FINETUNE_OUTPUT, value: /work/output}
            # Control gives its own; a Job that kubectl makes is known by its uid.
            - name: JOB_UID
              valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/controller-uid']"}}
            - {name: FINETUNE_JOB_ID, value: ftjob-$(JOB_UID)}
          {{- include "onggi.container" . | nindent 10 }}
          terminationMessagePolicy: FallbackToLogsOnError
          resources:
            {{- include "onggi.jobs.finetune.resources" . | fromJson | toYaml | nindent 12 }}
          volumeMounts:
            {{- include "onggi.jobs.mounts" $me | nindent 12 }}
      volumes:
        {{- include "onggi.jobs.volumes" $me | nindent 8 }}
{{- end }}

{{- define "onggi.jobs.finetune.resources" -}}
{{- $resources := deepCopy .Values.jobs.finetune.resources -}}
{{- if .Values.jobs.gpu -}}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" 1) $resources.limits) -}}
{{- end -}}
{{- toJson $resources -}}
{{- end }}
