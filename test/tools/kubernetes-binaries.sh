#!/bin/sh
# Makes sure that programs of Kubernetes are there for the tests of test/cluster, and prints the folder they are in:
# kubernetes-binaries.sh [--existing] [PROGRAM]...
# The default is an API server: etcd, kube-apiserver, kube-controller-manager and kubectl. A node needs kube-scheduler, kubelet, kube-proxy,
# coredns and pause. Its storage needs csi-driver, csi-provisioner, csi-snapshotter, snapshot-controller and csi-snapshot-metadata.
# They are built once, from pinned Go modules, into the user's cache folder: minutes then, no time later. With
# --existing none is built: a test waits for no compiler. KUBEBUILDER_ASSETS names another.
# With CI set it fails without them; elsewhere one line says what is missing, and the tests are skipped.
set -eu

# KUBERNETES=oldest takes the oldest version that disklift supports, as an API server without a controller manager.
programs='etcd kube-apiserver kube-controller-manager kubectl'
case "${KUBERNETES:-newest}" in
  newest) VERSION=v1.36.3 module=kubernetes tags='' ;;
  # Without the clients of clouds, which the API server of that version had and no test uses.
  oldest) VERSION=v1.29.6 module=kubernetes-oldest tags=providerless programs='etcd kube-apiserver kubectl' ;;
esac
minor=${VERSION#v1.}
minor=${minor%%.*}
MODULES=$(cd "$(dirname "$0")/../cluster/binaries" && pwd)
PATH="$PATH:/usr/local/go/bin"

existing=''
if [ "${1:-}" = --existing ]; then
  existing=yes
  shift
fi
# shellcheck disable=SC2086 # a list of words
[ $# -gt 0 ] || set -- $programs

give_up() {
  echo "NOTE: no cluster to test with: $1" >&2
  [ -z "${CI:-}" ] && exit 0
  exit 1
}

# build MODULE PACKAGE NAME: one program, complete or not at all.
build() {
  echo "Building $3, once" >&2
  component=k8s.io/component-base/version
  (
    cd "$MODULES/$1"
    CGO_ENABLED=0 GOFLAGS=-mod=readonly nice -n 10 go build -trimpath -buildvcs=false -tags "$tags" \
      -ldflags "-s -w -X $component.gitVersion=$VERSION -X $component.gitMajor=1 -X $component.gitMinor=$minor" \
      -o "$folder/$3.$$" "$2"
  ) > "$folder/$3.log.$$" 2>&1 || {
    tail -n 20 "$folder/$3.log.$$" >&2
    rm -f "$folder/$3.$$" "$folder/$3.log.$$"
    give_up "$3 does not build"
  }
  rm -f "$folder/$3.log.$$"
  mv "$folder/$3.$$" "$folder/$3"
}

# The sources that decide which program of storage this is. The folder of the cache shows the version of Kubernetes alone.
sources_of() {
  case "$1" in
    csi-driver) cat "$MODULES"/csi/go.* "$MODULES"/csi/driver/* ;;
    csi-snapshot-metadata) cat "$MODULES"/snapshot-metadata/go.* "$MODULES"/snapshot-metadata/client/clientset/versioned/* ;;
    *) cat "$MODULES"/csi/go.* ;;
  esac | cksum
}

is_built() {
  [ -x "$folder/$1" ] || return 1
  case "$1" in
    csi-* | snapshot-controller) [ "$(sources_of "$1")" = "$(cat "$folder/$1.sources" 2> /dev/null)" ] ;;
  esac
}

# build_storage PACKAGE NAME [MODULE]
build_storage() {
  build "${3:-csi}" "$1" "$2"
  sources_of "$2" > "$folder/$2.sources"
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  for program in "$@"; do
    [ -x "$KUBEBUILDER_ASSETS/$program" ] || give_up "KUBEBUILDER_ASSETS has no $program"
  done
  echo "$KUBEBUILDER_ASSETS"
  exit 0
fi

folder="${XDG_CACHE_HOME:-$HOME/.cache}/disklift/kubernetes-$VERSION"
mkdir -p "$folder"
# One at a time: a second run that needs the same program finds it built.
if [ -z "$existing" ] && command -v flock > /dev/null; then
  exec 9> "$folder/lock"
  flock 9
fi
for program in "$@"; do
  ! is_built "$program" || continue
  [ -z "$existing" ] || give_up "$program is not there; make setup builds it"
  command -v go > /dev/null || give_up "Go 1.26 or newer builds $program, and is not installed"
  case "$program" in
    etcd) build etcd go.etcd.io/etcd/server/v3 etcd ;;
    coredns) build coredns github.com/coredns/coredns coredns ;;
    pause) build pause . pause ;;
    csi-driver) build_storage ./driver csi-driver ;;
    csi-snapshot-metadata) build_storage github.com/kubernetes-csi/external-snapshot-metadata/cmd/csi-snapshot-metadata csi-snapshot-metadata snapshot-metadata ;;
    csi-provisioner) build_storage github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner csi-provisioner ;;
    csi-snapshotter | snapshot-controller) build_storage "github.com/kubernetes-csi/external-snapshotter/v8/cmd/$program" "$program" ;;
    *) build "$module" "k8s.io/kubernetes/cmd/$program" "$program" ;;
  esac
done
echo "$folder"
