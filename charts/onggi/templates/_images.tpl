{{- /* Image references. Takes (dict "root" $ "component" "gateway"). */}}

{{- define "onggi.image" -}}
{{- $global := .root.Values.global -}}
{{- $image := (get .root.Values .component).image -}}
{{- $tag := coalesce $image.tag $global.imageTag .root.Chart.AppVersion -}}
{{- $tag = ternary (printf "%s-%s" $tag $image.variant) $tag (not (empty $image.variant)) -}}
{{- $registry := ternary (printf "%s/" (trimSuffix "/" $global.imageRegistry)) "" (not (empty $global.imageRegistry)) -}}
{{- $image.reference | default (printf "%songgi-%s:%s" $registry .component $tag) -}}
{{- end }}

{{- /* Two lines of a container of ours. */}}
{{- define "onggi.image.lines" -}}
image: {{ include "onggi.image" . }}
imagePullPolicy: {{ .root.Values.global.imagePullPolicy }}
{{- end }}

{{- /* Two lines of a container of the store. Takes (dict "root" $ "image" .Values.store.s3.image). */}}
{{- define "onggi.image.upstream" -}}
image: {{ .image.repository }}:{{ .image.tag }}
imagePullPolicy: {{ .root.Values.global.imagePullPolicy }}
{{- end }}
