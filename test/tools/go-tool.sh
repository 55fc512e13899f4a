#!/bin/sh
# Builds a program that is written in Go, once, into the user's cache: go-tool.sh NAME PACKAGE VERSION
# Tests find it as disklift/NAME-VERSION/NAME there. Without Go one line says what will be missing; with CI set that is a failure.
set -eu

name=$1 package=$2 version=$3
directory="${XDG_CACHE_HOME:-$HOME/.cache}/disklift/$name-$version"
[ ! -x "$directory/$name" ] || exit 0

# The directory of Go's own installer, which is not on every user's path.
PATH="$PATH:/usr/local/go/bin"
if ! command -v go > /dev/null; then
  echo "SKIPPED: tests with $name: there is no Go to build it with (https://go.dev/doc/install)" >&2
  [ -z "${CI:-}" ] || exit 1
  exit 0
fi

echo "Building $name $version"
mkdir -p "$directory"
# Built beside its final path and then renamed, so that it is never incomplete.
partial=$(mktemp -d "$directory/partial.XXXXXX")
log=$(mktemp)
trap 'rm -rf "$partial" "$log"' EXIT
if ! GOBIN="$partial" CGO_ENABLED=0 GOFLAGS=-trimpath go install "$package@$version" > "$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
mv "$partial/$name" "$directory/$name"
