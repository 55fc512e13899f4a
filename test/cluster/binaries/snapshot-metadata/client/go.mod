// A stand-in for a module that the registry lacks: the part of its API that csi-snapshot-metadata calls.
module github.com/kubernetes-csi/external-snapshot-metadata/client

go 1.26.0

require (
	k8s.io/apimachinery v0.36.1
	k8s.io/client-go v0.36.1
)
