{{/*
The pod of one volume, without the parts that differ between a Deployment and a Job. Takes root, volume, args and probes. Without a volume, the
pod only runs args, as serviceAccountName.
*/}}
{{- define "disklift.podSpec" -}}
serviceAccountName: {{ .serviceAccountName | default (include "disklift.serviceAccountName" .root) }}
automountServiceAccountToken: true
enableServiceLinks: false
# The process stops in a few seconds and leaves its uploads open for the next process to resume.
terminationGracePeriodSeconds: 30
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- if eq .root.Values.securityContext.mode "KubeVirt" }}
  # KubeVirt's qemu user. It owns disk.img (mode 0660), and the container runtime gives it a block device.
  runAsUser: 107
  runAsGroup: 107
  {{- end }}
  {{- with .root.Values.securityContext.seLinuxLevel }}
  seLinuxOptions:
    level: {{ . | quote }}
  {{- end }}
  {{- with .root.Values.securityContext.seLinuxChangePolicy }}
  seLinuxChangePolicy: {{ . }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- $schedule := and .volume .volume.schedule }}
{{- if $schedule }}
initContainers:
  # Creates the DiskExport of the night, with the name of the Job.
  - name: create
    image: {{ include "disklift.image" .root | quote }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args:
      - create
      - --file
      - /etc/disklift/request/request.yaml
    env:
      - name: DISKLIFT_JOB
        valueFrom:
          fieldRef:
            fieldPath: metadata.labels['batch.kubernetes.io/job-name']
      - name: DISKLIFT_JOB_UID
        valueFrom:
          fieldRef:
            fieldPath: metadata.labels['batch.kubernetes.io/controller-uid']
    {{- with .root.Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop:
          - ALL
    volumeMounts:
      - name: request
        mountPath: /etc/disklift/request
        readOnly: true
{{- end }}
containers:
  - name: disklift
    image: {{ include "disklift.image" .root | quote }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args:
      {{- if .volume }}
      - sidecar
      - --volume
      - {{ printf "%s=%s" .volume.claimName (include "disklift.volumePath" .volume) }}
      {{- end }}
      {{- range .args }}
      - {{ . | quote }}
      {{- end }}
    {{- if .volume }}
    env:
      - name: DISKLIFT_NAMESPACE
        valueFrom:
          fieldRef:
            fieldPath: metadata.namespace
      - name: DISKLIFT_POD_NAME
        valueFrom:
          fieldRef:
            fieldPath: metadata.name
      - name: DISKLIFT_POD_UID
        valueFrom:
          fieldRef:
            fieldPath: metadata.uid
      {{- if $schedule }}
      - name: DISKLIFT_ONCE
        valueFrom:
          fieldRef:
            fieldPath: metadata.labels['batch.kubernetes.io/job-name']
      {{- end }}
      - name: DISKLIFT_NODE_NAME
        valueFrom:
          fieldRef:
            fieldPath: spec.nodeName
      - name: DISKLIFT_NODE_ADDRESSES
        valueFrom:
          fieldRef:
            fieldPath: status.hostIPs
      - name: DISKLIFT_CONTAINER_NAME
        value: disklift
      {{- range $key, $value := .root.Values.config }}
      - name: DISKLIFT_{{ $key | snakecase | upper }}
        value: {{ include "disklift.settingValue" $value | quote }}
      {{- end }}
      {{- with include "disklift.httpEnv" .root | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with .root.Values.env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - name: http
        containerPort: 9474
    {{- end }}
    {{- with .root.Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop:
          - ALL
    {{- if .probes }}
    {{- include "disklift.probes" .root | nindent 4 }}
    {{- end }}
    {{- if .volume }}
    {{- $isMounted := eq (include "disklift.volumePath" .volume) "/disks" }}
    {{- if not $isMounted }}
    volumeDevices:
      - name: disks
        devicePath: /dev/vmdisk
    {{- end }}
    {{- if or $isMounted .root.Values.http.certificateSecretName .root.Values.http.tokenSecretName }}
    volumeMounts:
      {{- if $isMounted }}
      - name: disks
        mountPath: /disks
        readOnly: true
      {{- end }}
      {{- with include "disklift.httpMounts" .root | trim }}
      {{- . | nindent 6 }}
      {{- end }}
    {{- end }}
volumes:
  - name: disks
    persistentVolumeClaim:
      claimName: {{ .volume.claimName | quote }}
      readOnly: true
  {{- if $schedule }}
  - name: request
    configMap:
      name: {{ include "disklift.scheduleName" . }}
  {{- end }}
  {{- with include "disklift.httpVolumes" .root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
