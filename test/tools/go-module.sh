#!/bin/sh
# Prints the folder of a Go module's files, which Go keeps in its own cache once it has fetched them: go-module.sh MODULE VERSION
# With CI set it fails without Go; elsewhere one line says what will be missing.
set -eu

PATH="$PATH:/usr/local/go/bin"
if ! command -v go > /dev/null; then
  echo "SKIPPED: tests with files of $1: there is no Go to fetch them with (https://go.dev/doc/install)" >&2
  [ -z "${CI:-}" ] || exit 1
  exit 0
fi
# Outside of every module, whose go.mod would change the result.
cd /
go mod download -json "$1@$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
