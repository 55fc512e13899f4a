{{/* The release's name, with the chart's unless it holds it already. */}}
{{- define "disklift.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name -}}
{{- end -}}
{{- end -}}

{{- define "disklift.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "disklift.fullname" .) -}}
{{- end -}}

{{/* The Job of a volume with once. Takes root and volume. */}}
{{- define "disklift.jobName" -}}
{{- printf "%s-%s" (include "disklift.fullname" .root) .volume.once | trunc 63 | trimSuffix "-" | trimSuffix "." -}}
{{- end -}}

{{/* Labels that select all pods of the release. */}}
{{- define "disklift.releaseLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Labels of the objects that all volumes share. */}}
{{- define "disklift.sharedLabels" -}}
{{ include "disklift.releaseLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{/* Labels that select the pod of one volume. Takes root and volume. */}}
{{- define "disklift.selectorLabels" -}}
{{ include "disklift.releaseLabels" .root }}
disklift.dev/volume: {{ .volume.name | quote }}
{{- end -}}

{{/* Labels of the objects of one volume. Takes root and volume. */}}
{{- define "disklift.labels" -}}
{{ include "disklift.sharedLabels" .root }}
disklift.dev/volume: {{ .volume.name | quote }}
{{- end -}}

{{/* Labels of the pods of one volume. Takes root and volume. */}}
{{- define "disklift.podLabels" -}}
{{ mergeOverwrite (deepCopy .root.Values.podLabels) (include "disklift.selectorLabels" . | fromYaml) | toYaml }}
{{- end -}}

{{- define "disklift.image" -}}
{{- $repository := required "image.repository is not set: name the image that you built and pushed, without its tag" .Values.image.repository -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* Where a volume is in its pod. Takes the volume. */}}
{{- define "disklift.volumePath" -}}
{{- eq (.mode | default "Filesystem") "Block" | ternary "/dev/vmdisk" "/disks" -}}
{{- end -}}

{{/* A setting as its environment variable has it. */}}
{{- define "disklift.settingValue" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if kindIs "float64" . -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* What no schema can say of the values. */}}
{{- define "disklift.checkVolumes" -}}
{{- if not .Values.volumes -}}
{{- fail "volumes is empty: name at least one claim, such as --set volumes[0].name=fedora,volumes[0].claimName=fedora-root" -}}
{{- end -}}
{{- if and .Values.http.tokenReview .Values.http.tokenSecretName -}}
{{- fail "http: tokenReview and tokenSecretName exclude each other" -}}
{{- end -}}
{{- $seen := dict -}}
{{- range .Values.volumes -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "volumes: the name %s is there twice" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- end -}}
