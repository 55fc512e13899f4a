#!/usr/bin/env bash
# `qemu-img amend -o data_file=NEW` cannot repair an image whose external data file was renamed: it first opens the old name.
#
# Seen with qemu-img 7.2.22 (Debian 12, qemu-utils 1:7.2+dfsg-7+deb12u18+b3): an image with `data_file=disk.data`, the data file renamed to
# moved.data. `amend -o data_file=moved.data` fails with "Could not open 'disk.data'". While the old name exists, even as an empty file, the
# same command succeeds and the image reads the renamed file.
#
# Run it on Debian 12 with the libraries of qemu-utils installed. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

apt-get download --quiet 'qemu-utils=1:7.2+dfsg-7+deb12u18+b3' > /dev/null 2>&1
dpkg-deb -x qemu-utils_*.deb qemu
tools="$work/qemu/usr/bin"
"$tools/qemu-img" --version | head -n 1

"$tools/qemu-img" create -q -f qcow2 -o data_file=disk.data disk.qcow2 1M
"$tools/qemu-io" -f qcow2 -c 'write -P 0x31 0 64k' disk.qcow2 > /dev/null
mv disk.data moved.data

if message=$("$tools/qemu-img" amend -f qcow2 -o data_file=moved.data disk.qcow2 2>&1); then
  echo 'the behaviour has changed: amend does not need the old data file' >&2
  exit 1
fi
echo "without the old name: $message"
grep -q "Could not open 'disk.data'" <<< "$message" || { echo 'the behaviour has changed' >&2; exit 1; }

: > disk.data
"$tools/qemu-img" amend -f qcow2 -o data_file=moved.data disk.qcow2
rm disk.data
"$tools/qemu-io" -f qcow2 -r -c 'read -P 0x31 0 64k' disk.qcow2 | head -n 1
"$tools/qemu-img" info disk.qcow2 | grep 'data file:'
