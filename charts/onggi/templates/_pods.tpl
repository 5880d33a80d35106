{{- /* What every pod and container of ours has: Pod Security "restricted", no token, a read-only root. */}}

{{- /*
    The pod's own lines. Takes (dict "root" $ "values" .Values.gateway), and where it differs "token" (true:
    the service account's is mounted) and "user" (the user and group id, 10001).
*/}}
{{- define "onggi.pod" -}}
{{- $user := .user | default 10001 -}}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $user }}
  runAsGroup: {{ $user }}
  fsGroup: {{ $user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "onggi.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- /* Where a process may write. Takes (dict "root" $), with "shm" the size of /dev/shm for those that use it. */}}
{{- define "onggi.scratch.mounts" -}}
- name: scratch
  mountPath: /tmp
  subPath: tmp
- name: scratch
  mountPath: /home/onggi
  subPath: home
{{- if .shm }}
- name: shm
  mountPath: /dev/shm
{{- end }}
{{- if .root.Values.global.caBundle.configMap }}
- name: ca-bundle
  mountPath: /etc/onggi/ca
  readOnly: true
{{- end }}
{{- end }}

{{- define "onggi.scratch.volumes" -}}
- name: scratch
  emptyDir: {}
{{- with .shm }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ . }}
{{- end }}
{{- with .root.Values.global.caBundle }}
{{- if .configMap }}
- name: ca-bundle
  configMap:
    name: {{ .configMap }}
    items:
      - key: {{ .key }}
        path: ca.crt
{{- end }}
{{- end }}
{{- end }}

{{- /* Replicas on different nodes where there are several. Takes (dict "root" $ "component" "gateway"). */}}
{{- define "onggi.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "onggi.selector" . | nindent 8 }}
{{- end }}

{{- /* The init container that waits for the database and brings it up to this image. */}}
{{- define "onggi.migrate" -}}
name: migrate
{{ include "onggi.image.lines" . }}
command: [python, -m, services.database, upgrade]
env:
  {{- include "onggi.env.base" . | nindent 2 }}
  {{- include "onggi.env.secret" (dict "root" .root "key" "DATABASE_URL") | nindent 2 }}
  - {name: DATABASE_WAIT_SECONDS, value: "600"}
{{ include "onggi.container" . }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
volumeMounts:
  {{- include "onggi.scratch.mounts" . | nindent 2 }}
{{- end }}

{{- /* Takes (dict "path" "/ready" "port" "http"). */}}
{{- define "onggi.probe" -}}
httpGet:
  path: {{ .path }}
  port: {{ .port | default "http" }}
timeoutSeconds: 5
{{- end }}

{{- /* Three probes of a process that is alive at "health" and can work at "ready", up within "seconds". */}}
{{- define "onggi.probes" -}}
startupProbe:
  {{- include "onggi.probe" (dict "path" .health) | nindent 2 }}
  periodSeconds: 5
  failureThreshold: {{ div (.seconds | default 300) 5 }}
readinessProbe:
  {{- include "onggi.probe" (dict "path" .ready) | nindent 2 }}
  periodSeconds: 5
livenessProbe:
  {{- include "onggi.probe" (dict "path" .health) | nindent 2 }}
  periodSeconds: 20
  failureThreshold: 6
{{- end }}
