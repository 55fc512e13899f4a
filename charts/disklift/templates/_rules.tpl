{{/*
The rights of a process that runs exports: of the sidecar in its namespace, and of the controller's workers in theirs. Takes the root, for workers with
`isWorker`: they end before an export's time to live, and the controller deletes it.
*/}}
{{- define "disklift.sidecarRules" -}}
- apiGroups: [disklift.dev]
  resources: [diskexports]
  verbs:
    # Reads an object again when the cached version is too old.
    - get
    # Lists all objects at the start, and every ten minutes.
    - list
    # Watches changes between the lists.
    - watch
    # Sets a finalizer while an upload is open, so that a deletion does not leave the upload behind.
    - patch
    {{- if and .Values.features.ttl (not .isWorker) }}
    # Deletes finished objects after spec.ttlSecondsAfterFinished.
    - delete
    {{- end }}
- apiGroups: [disklift.dev]
  resources: [diskexports/status]
  verbs:
    # Writes claim, progress and result.
    - patch
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs:
    # Reads whether the lease holder is alive.
    - get
    # Claims an export.
    - create
    # Renews a Lease, or takes it over.
    - update
    # Releases an export.
    - delete
- apiGroups: [""]
  resources: [events]
  verbs:
    # Records events of an export, for `kubectl describe`.
    - create
    # Counts a repeated event.
    - patch
- apiGroups: [""]
  resources: [namespaces]
  verbs:
    # Its own only. While an upload is open, disklift checks whether the namespace is terminating, to abort the upload before this Role is deleted.
    - get
- apiGroups: [""]
  resources: [secrets]
  {{- with .Values.rbac.secretNames }}
  resourceNames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  verbs:
    # Reads the credentials that an export names, when an attempt starts. Never lists or watches them. disklift uses only Secrets with the label
    # disklift.dev/credentials=true.
    - get
- apiGroups: [""]
  resources: [configmaps]
  {{- with .Values.rbac.configMapNames }}
  resourceNames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  verbs:
    # Reads the certificate authorities that an export names.
    - get
{{- if .Values.features.inUse }}
- apiGroups: [""]
  resources: [pods]
  verbs:
    # Finds pods that mount the claim read-write, such as the pod of a running VM.
    - list
{{- end }}
{{- if .isWorker }}
- apiGroups: [backup.kubevirt.io]
  resources: [virtualmachinebackups, virtualmachinebackuptrackers]
  verbs:
    # Reads the endpoints of a backup that an export names, whether it has ended, and the checkpoint that it counts from.
    - get
- apiGroups: [kubevirt.io]
  resources: [virtualmachines]
  verbs:
    # Reads the UID of the VM of such a backup, for the receipt.
    - get
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshots]
  verbs:
    # The SnapshotMetadata service of a CSI driver shows the blocks of a snapshot only to an account that may read it. disklift itself does not.
    - get
{{- end }}
{{- end -}}

{{/*
The rights of the controller in the namespaces whose DiskExports it runs. Takes the root. The controller makes every object with the label
app.kubernetes.io/managed-by=disklift-controller, but RBAC knows no labels.
*/}}
{{- define "disklift.controllerRules" -}}
- apiGroups: [disklift.dev]
  resources: [diskexports]
  verbs:
    # Reads an object again when the cached version is too old.
    - get
    # Lists all objects at the start, and every ten minutes.
    - list
    # Watches changes between the lists.
    - watch
    # Creates the exports of a DiskExportSchedule.
    - create
    # Removes the finalizer of an export in a terminating namespace, and cancels an export that a schedule replaces.
    - patch
    # Deletes finished exports after spec.ttlSecondsAfterFinished, and exports that a schedule no longer keeps.
    - delete
- apiGroups: [disklift.dev]
  resources: [diskexports/status]
  verbs:
    # Writes what an export waits for while no worker runs, such as its place in the queue.
    - patch
- apiGroups: [disklift.dev]
  resources: [diskexportschedules]
  verbs:
    # Reads a schedule again before it creates an export.
    - get
    # Lists all schedules at the start, and every ten minutes.
    - list
    # Watches changes between the lists.
    - watch
- apiGroups: [disklift.dev]
  resources: [diskexportschedules/status]
  verbs:
    # Writes the times of the last and the next export.
    - patch
- apiGroups: [batch]
  resources: [jobs]
  verbs:
    # Finds the Jobs that an earlier process has created.
    - list
    # Sees when a Job has ended.
    - watch
    # Creates the Job of an export.
    - create
    # Deletes the Job when the export has ended.
    - delete
- apiGroups: [""]
  resources: [pods]
  verbs:
    # Finds the pods of its Jobs, and pods that have a claim mounted, such as the pod of a running VM.
    - list
    # Sees when such a pod starts or ends.
    - watch
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs:
    # Reads size, class and mode of the claim to export.
    - get
    # Finds the clones that an earlier process has created.
    - list
    # Sees when a clone has a volume.
    - watch
    # Creates the clone of a snapshot.
    - create
    # Deletes the clone when the export has ended.
    - delete
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshots]
  verbs:
    # Reads a snapshot that an export names, or that KubeVirt has created.
    - get
    # Finds the snapshots that an earlier process has created.
    - list
    # Sees when a snapshot is ready.
    - watch
    # Creates the snapshot of a claim in use.
    - create
    # Hands the snapshot of an export with spec.incremental.tracker to its claim, when the image has arrived.
    - patch
    # Deletes it when the export has ended.
    - delete
- apiGroups: [kubevirt.io]
  resources: [virtualmachines, virtualmachineinstances]
  verbs:
    # Reads the volumes of the VM to export, and whether it runs.
    - get
- apiGroups: [backup.kubevirt.io]
  resources: [virtualmachinebackups]
  verbs:
    # Reads whether KubeVirt serves the backup that an export names.
    - get
- apiGroups: [snapshot.kubevirt.io]
  resources: [virtualmachinesnapshots]
  verbs:
    # Finds the snapshots that an earlier process has created.
    - list
    # Sees when a snapshot is ready.
    - watch
    # Creates the snapshot of a running VM. KubeVirt freezes the guest for it.
    - create
    # Deletes it when the export has ended.
    - delete
- apiGroups: [snapshot.kubevirt.io]
  resources: [virtualmachinesnapshotcontents]
  verbs:
    # Reads which volumes a snapshot has, and in which state each claim was.
    - get
- apiGroups: [""]
  resources: [configmaps]
  verbs:
    # Finds the ConfigMaps that an earlier process has created.
    - list
    # Sees when one of them is gone.
    - watch
    # Creates the ConfigMap with vm.yaml.
    - create
    # Deletes it when the export has ended.
    - delete
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs:
    # Finds the ServiceAccounts that an earlier process has created.
    - list
    # Creates the ServiceAccount of the workers in a namespace.
    - create
- apiGroups: [""]
  resources: [serviceaccounts]
  resourceNames:
    - {{ include "disklift.workerAccountName" . }}
  verbs:
    # Deletes it when the last export of the namespace has ended.
    - delete
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs:
    # Finds the RoleBindings that an earlier process has created.
    - list
    # Gives the workers of a namespace their rights.
    - create
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  resourceNames:
    - {{ include "disklift.workerAccountName" . }}
  verbs:
    # Takes the rights away when the last export of the namespace has ended.
    - delete
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterroles]
  resourceNames:
    - {{ include "disklift.workerRoleName" . }}
  verbs:
    # A RoleBinding to this one ClusterRole. Without it the API server lets the controller grant only rights that it has itself.
    - bind
- apiGroups: [""]
  resources: [events]
  verbs:
    # Reads why a pod does not start, such as a volume that cannot be attached.
    - list
    # Records events of an export, for `kubectl describe`.
    - create
    # Counts a repeated event.
    - patch
- apiGroups: [""]
  resources: [namespaces]
  verbs:
    # Reads whether the namespace is terminating, because no pod can be created there that aborts an upload.
    - get
{{- end -}}

{{/* The rights of the controller on objects that belong to no namespace. */}}
{{- define "disklift.controllerClusterRules" -}}
- apiGroups: [storage.k8s.io]
  resources: [storageclasses]
  verbs:
    # Reads the driver of a claim's class, if the claim does not name it.
    - list
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshotclasses]
  verbs:
    # Chooses the class for a snapshot.
    - list
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshotcontents]
  verbs:
    # Reads the driver and the driver's name of a snapshot, and whether it is of a Block volume.
    - get
- apiGroups: [cbt.storage.k8s.io]
  resources: [snapshotmetadataservices]
  verbs:
    # Reads the address of the driver's SnapshotMetadata service, for a worker that reads a snapshot of a Block volume.
    - get
{{- end -}}

{{/* The rights of the Job that removes what the controller has made. Takes the root. */}}
{{- define "disklift.removalRules" -}}
- apiGroups: [batch]
  resources: [jobs]
  verbs:
    # Finds the Jobs of the controller.
    - list
    # Deletes them. Their pods then remove the finalizers of open uploads and end.
    - delete
- apiGroups: [""]
  resources: [pods]
  verbs:
    # Checks whether all of these pods have ended.
    - list
- apiGroups: [""]
  resources: [persistentvolumeclaims, configmaps]
  verbs:
    # Finds the clones of snapshots, and the copies of vm.yaml.
    - list
    - delete
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshots]
  verbs:
    # Finds the snapshots of claims.
    - list
    - delete
- apiGroups: [snapshot.kubevirt.io]
  resources: [virtualmachinesnapshots]
  verbs:
    # Finds the snapshots of VMs.
    - list
    - delete
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs:
    # Finds the namespaces in which workers have rights.
    - list
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs:
    # The same.
    - list
- apiGroups: ["", rbac.authorization.k8s.io]
  resources: [serviceaccounts, rolebindings]
  resourceNames:
    - {{ include "disklift.workerAccountName" . }}
  verbs:
    # Takes the rights away.
    - delete
{{- end -}}
