{{/* The name of the release, followed by that of the chart unless the release's name contains it. */}}
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

{{/* The volumes as a JSON array sorted by name, whether the values are a map by name or a list. */}}
{{- define "disklift.volumes" -}}
{{- $volumes := list -}}
{{- if kindIs "map" .Values.volumes -}}
{{- range $name, $volume := .Values.volumes -}}
{{- if and $volume (ne (toString $volume.enabled) "false") -}}
{{- $volumes = append $volumes (merge (dict "name" $name) $volume) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- range .Values.volumes -}}
{{- if ne (toString .enabled) "false" -}}
{{- $volumes = append $volumes . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $volumes | toJson -}}
{{- end -}}

{{/*
The Job of a volume with once. Takes root and volume. A Job cannot be changed, so its name has a hash of its spec. A changed Job has
another name, and Helm deletes the old one.
*/}}
{{- define "disklift.jobName" -}}
{{- $name := printf "%s-%s" (include "disklift.fullname" .root) .volume.once | trunc 54 | trimSuffix "-" | trimSuffix "." -}}
{{- printf "%s-%s" $name (include "disklift.jobSpec" . | sha256sum | trunc 8) -}}
{{- end -}}

{{/* Name of the objects of a volume's schedule. Takes root and volume. A CronJob needs 11 of 63 characters for the names of its Jobs. */}}
{{- define "disklift.scheduleName" -}}
{{- printf "%s-%s" (include "disklift.fullname" .root) .volume.name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "disklift.scheduleAccountName" -}}
{{- .Values.serviceAccount.create | ternary (printf "%s-schedule" (include "disklift.fullname" .)) (include "disklift.serviceAccountName" .) -}}
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

{{/* Path of a volume in its pod. Takes the volume. */}}
{{- define "disklift.volumePath" -}}
{{- eq (.mode | default "Filesystem") "Block" | ternary "/dev/vmdisk" "/disks" -}}
{{- end -}}

{{/* A setting as the value of its environment variable. */}}
{{- define "disklift.settingValue" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if kindIs "float64" . -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* Checks of the values that the schema cannot express. */}}
{{- define "disklift.checkVolumes" -}}
{{- $volumes := include "disklift.volumes" . | fromJsonArray -}}
{{- if not (or $volumes .Values.controller.enabled) -}}
{{- fail "volumes is empty: name at least one claim, such as --set volumes.fedora.claimName=fedora-root, or set controller.enabled" -}}
{{- end -}}
{{- if and .Values.http.tokenReview .Values.http.tokenSecretName -}}
{{- fail "http: tokenReview and tokenSecretName exclude each other" -}}
{{- end -}}
{{- $seen := dict -}}
{{- range $volumes -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "volumes: the name %s is there twice" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- if and .once .schedule -}}
{{- fail (printf "volumes: %s has both once and schedule" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The spec of a Job, of a volume with once or schedule. Takes root and volume. */}}
{{- define "disklift.jobSpec" -}}
backoffLimit: 6
# disklift makes the attempts itself. Exit code 3 means that the export has ended without success, so another pod would not help.
# The Job replaces a pod that ends with another code, for example after `kubectl delete pod`.
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    - action: FailJob
      onExitCodes:
        containerName: disklift
        operator: In
        values: [3]
template:
  metadata:
    labels:
      {{- include "disklift.podLabels" . | nindent 6 }}
    {{- with .root.Values.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    restartPolicy: Never
    {{- include "disklift.podSpec" (merge (dict "args" (empty .volume.once | ternary list (list "--once" .volume.once)) "probes" false) .) | nindent 4 }}
{{- end -}}

{{/* Name of the controller's Deployment, account, rights and Lease. */}}
{{- define "disklift.controllerName" -}}
{{- printf "%s-controller" (include "disklift.fullname" .) -}}
{{- end -}}

{{- define "disklift.controllerAccountName" -}}
{{- .Values.serviceAccount.create | ternary (include "disklift.controllerName" .) (include "disklift.serviceAccountName" .) -}}
{{- end -}}

{{/* The ClusterRole that the controller binds to its workers. */}}
{{- define "disklift.workerRoleName" -}}
{{- printf "%s-worker" (include "disklift.fullname" .) -}}
{{- end -}}

{{/* Name of the ServiceAccount and the RoleBinding of the workers, in each namespace. */}}
{{- define "disklift.workerAccountName" -}}
disklift-worker
{{- end -}}

{{/* Labels that select the controller's pods. */}}
{{- define "disklift.controllerSelectorLabels" -}}
{{ include "disklift.releaseLabels" . }}
app.kubernetes.io/component: controller
{{- end -}}

{{/* Labels of the controller's objects. */}}
{{- define "disklift.controllerLabels" -}}
{{ include "disklift.sharedLabels" . }}
app.kubernetes.io/component: controller
{{- end -}}

{{/* Selects every object that a controller makes, in all namespaces. */}}
{{- define "disklift.workerLabels" -}}
app.kubernetes.io/managed-by: disklift-controller
{{- end -}}

{{/*
The file of the setting jobTemplateFile. The settings in config hold for the workers as well. Where the sidecar's port requires a certificate or
a token, that of the workers is closed, because the Secrets are in the release's namespace only.
*/}}
{{- define "disklift.jobTemplate" -}}
{{- $values := .Values.controller.jobTemplate -}}
{{- $env := list -}}
{{- range $key, $value := .Values.config -}}
{{- $env = append $env (dict "name" (printf "DISKLIFT_%s" ($key | snakecase | upper)) "value" (include "disklift.settingValue" $value)) -}}
{{- end -}}
{{- if include "disklift.isProtected" . -}}
{{- $env = append $env (dict "name" "DISKLIFT_LISTEN_HOST" "value" "127.0.0.1") -}}
{{- end -}}
{{- $template := dict "securityContext" .Values.securityContext -}}
{{- $_ := set $template "labels" (mergeOverwrite (deepCopy .Values.podLabels) $values.labels) -}}
{{- $_ := set $template "annotations" (mergeOverwrite (deepCopy .Values.podAnnotations) $values.annotations) -}}
{{- $_ := set $template "env" (concat $env .Values.env $values.env | default list) -}}
{{- $_ := set $template "imagePullSecrets" .Values.imagePullSecrets -}}
{{- range $key := list "nodeSelector" "tolerations" "resources" -}}
{{- $_ := set $template $key (get $values $key | default (get $.Values $key)) -}}
{{- end -}}
{{- with $values.priorityClassName -}}
{{- $_ := set $template "priorityClassName" . -}}
{{- end -}}
{{- $template | toYaml -}}
{{- end -}}

{{/* Not empty where the HTTP server requires a certificate or a token. */}}
{{- define "disklift.isProtected" -}}
{{- with .Values.http }}{{ if or .certificateSecretName .tokenSecretName .tokenReview }}true{{ end }}{{ end -}}
{{- end -}}

{{/* Annotations of an object that exists only while `helm uninstall` runs. Takes the weight. */}}
{{- define "disklift.hookAnnotations" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end -}}
