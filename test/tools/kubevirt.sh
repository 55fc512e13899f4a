#!/bin/sh
# Makes sure that virt-controller, virt-exportserver and the resource definitions of KubeVirt are there for the tests,
# and prints the folder they are in: kubevirt.sh [--existing]
# All are made once, from a pinned Go module, into the user's cache folder: minutes then, no time later. With
# --existing nothing is built: a test waits for no compiler.
# With CI set it fails without them; elsewhere one line says what is missing, and the tests are skipped.
set -eu

module=$(cd "$(dirname "$0")/../cluster/binaries/kubevirt" && pwd)
version=$(sed -n 's,.*kubevirt.io/kubevirt \(v[0-9.]*\).*,\1,p' "$module/go.mod")
folder="${XDG_CACHE_HOME:-$HOME/.cache}/disklift/kubevirt-$version"
PATH="$PATH:/usr/local/go/bin"

give_up() {
  echo "NOTE: no KubeVirt to test with: $1" >&2
  [ -z "${CI:-}" ] && exit 0
  exit 1
}

# build PACKAGE FILE
build() {
  CGO_ENABLED=0 GOFLAGS=-mod=readonly nice -n 10 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$2" "$1" > "$log" 2>&1 || {
    tail -n 20 "$log" >&2
    give_up "it does not build"
  }
}

mkdir -p "$folder"
if [ -z "${1:-}" ] && command -v flock > /dev/null; then
  exec 9> "$folder/lock"
  flock 9
fi
# The definitions come last, and complete: where they are, all are.
if [ ! -s "$folder/definitions.json" ] || [ ! -x "$folder/virt-controller" ] || [ ! -x "$folder/virt-exportserver" ]; then
  [ -z "${1:-}" ] || give_up "KubeVirt is not there; make setup builds it"
  command -v go > /dev/null || give_up "Go 1.26 or newer builds it, and is not installed"
  echo "Building KubeVirt's virt-controller and virt-exportserver, once" >&2
  log=$(mktemp)
  partial=$(mktemp -d "$folder/partial.XXXXXX")
  trap 'rm -rf "$partial" "$log"' EXIT
  cd "$module"
  build kubevirt.io/kubevirt/cmd/virt-exportserver "$partial/virt-exportserver"
  build kubevirt.io/kubevirt/cmd/virt-controller "$partial/virt-controller"
  build . "$partial/print-definitions"
  "$partial/print-definitions" > "$partial/definitions.json"
  mv "$partial/virt-exportserver" "$partial/virt-controller" "$partial/definitions.json" "$folder"
fi
echo "$folder"
