{{- /*
    The volume of a part of the store, which stays when the release goes. Its labels are the selector's alone:
    a StatefulSet's claim templates cannot be changed by an upgrade. Takes (dict "root" $ "component" "store-s3"
    "values" .Values.store.s3).
*/}}
{{- define "onggi.store.claim" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: data
    labels:
      {{- include "onggi.selector" . | nindent 6 }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .values.storage.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .values.storage.size }}
{{- end }}
