#!/usr/bin/env bash
# `qemu-nbd --bitmap NAME` on an overlay without a bitmap of that name takes the backing file's bitmap, and says nothing. All that was written
# to the overlay, as after an external snapshot, is called clean. A client cannot see whose bitmap it is.
#
# Seen with qemu-nbd 7.2.22 (Debian 12, qemu-utils 1:7.2+dfsg-7+deb12u18+b3): base.qcow2 has the bitmap and 1 MiB written since; overlay.qcow2
# on it has another MiB. The server of overlay.qcow2 reports base.qcow2's MiB as dirty, and the overlay's own as clean.
#
# Run it on Debian 12 with the libraries of qemu-utils installed. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

apt-get download --quiet 'qemu-utils=1:7.2+dfsg-7+deb12u18+b3' > /dev/null 2>&1
dpkg-deb -x qemu-utils_*.deb qemu
tools="$work/qemu/usr/bin"
"$tools/qemu-img" --version | head -n 1

"$tools/qemu-img" create -q -f qcow2 base.qcow2 8M
"$tools/qemu-img" bitmap --add base.qcow2 nightly
"$tools/qemu-io" -c 'write -q -P 1 1M 1M' base.qcow2
"$tools/qemu-img" create -q -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2
"$tools/qemu-io" -c 'write -q -P 2 4M 1M' overlay.qcow2

"$tools/qemu-nbd" --read-only --persistent --format qcow2 --export-name disk --bitmap nightly --socket "$work/nbd.sock" overlay.qcow2 &
server=$!
while [ ! -S nbd.sock ]; do
  kill -0 "$server" 2> /dev/null || { server=; echo 'the behaviour has changed: the server refuses the bitmap' >&2; exit 1; }
  sleep 0.1
done

# qemu-img map shows dirty bytes of x-dirty-bitmap as "data": false.
map=$("$tools/qemu-img" map --output=json --image-opts \
  "driver=nbd,export=disk,server.type=unix,server.path=$work/nbd.sock,x-dirty-bitmap=qemu:dirty-bitmap:nightly")
echo "$map"
dirty=$(grep -c '"data": false' <<< "$map")
grep -q '"start": 1048576, "length": 1048576, .*"data": false' <<< "$map" && [ "$dirty" = 1 ] || { echo 'the behaviour has changed' >&2; exit 1; }
echo 'the bitmap is of the backing file: the MiB of the overlay, at 4194304, is called clean'
