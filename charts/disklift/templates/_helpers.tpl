{{/* The release's name, with the chart's unless it holds it already. */}}
{{- define "disklift.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pod of one volume. Takes root and volume. */}}
{{- define "disklift.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
disklift.dev/volume: {{ .volume.name | quote }}
{{- end -}}

{{/* Labels of the objects of one volume. Takes root and volume. */}}
{{- define "disklift.labels" -}}
{{ include "disklift.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{- define "disklift.image" -}}
{{- $repository := required "image.repository is not set: name the image that you built and pushed, without its tag" .Values.image.repository -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* What no schema can say of the values. */}}
{{- define "disklift.checkVolumes" -}}
{{- if not .Values.volumes -}}
{{- fail "volumes is empty: name at least one claim, such as --set volumes[0].name=fedora,volumes[0].claimName=fedora-root" -}}
{{- end -}}
{{- $seen := dict -}}
{{- range .Values.volumes -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "volumes: the name %s is there twice" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- end -}}
