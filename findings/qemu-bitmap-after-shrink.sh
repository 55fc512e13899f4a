#!/usr/bin/env bash
# A disk that was shrunk and grown back holds zeros where it held data, and its dirty bitmap calls them clean.
#
# Seen with qemu-img 7.2.22 (Debian 12, qemu-utils 1:7.2+dfsg-7+deb12u18+b3): 8 MiB of data, a bitmap added, the image resized to 4 MiB and back to
# 8 MiB. The second half reads as zeros, and no byte of the disk is dirty. A backup of the dirty bytes, on a base that is older, restores the old
# data there.
#
# A size in the middle of a cluster is worse. The guess was that the bytes behind it become zeros, too. They survive until the end of their cluster,
# and their dirty bits do not. 64 KiB are written after the bitmap was added. After a resize to 4 KiB into them and back they are still read, and only
# these 4 KiB are dirty.
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

"$tools/qemu-img" create -q -f qcow2 disk.qcow2 8M
"$tools/qemu-io" -c 'write -q -P 7 0 8M' disk.qcow2
"$tools/qemu-img" bitmap --add disk.qcow2 nightly
"$tools/qemu-img" resize -q --shrink disk.qcow2 4M
"$tools/qemu-img" resize -q disk.qcow2 8M
"$tools/qemu-io" -r -c 'read -P 0 4M 4M' disk.qcow2 | head -n 1

"$tools/qemu-nbd" --read-only --persistent --format qcow2 --export-name disk --bitmap nightly --socket "$work/nbd.sock" disk.qcow2 &
server=$!
while [ ! -S nbd.sock ]; do
  kill -0 "$server" 2> /dev/null || { server=; echo 'the behaviour has changed: the bitmap is not there any more' >&2; exit 1; }
  sleep 0.1
done

# qemu-img map shows dirty bytes of x-dirty-bitmap as "data": false.
map=$("$tools/qemu-img" map --output=json --image-opts \
  "driver=nbd,export=disk,server.type=unix,server.path=$work/nbd.sock,x-dirty-bitmap=qemu:dirty-bitmap:nightly")
echo "$map"
grep -q '"data": false' <<< "$map" && { echo 'the behaviour has changed: a resize makes bytes dirty' >&2; exit 1; }
echo 'no byte is dirty'
kill "$server"
wait "$server" 2> /dev/null || true
server=

"$tools/qemu-img" create -q -f qcow2 tail.qcow2 8M
"$tools/qemu-img" bitmap --add -g 512 tail.qcow2 nightly
"$tools/qemu-io" -c 'write -q -P 7 4M 64k' tail.qcow2
"$tools/qemu-img" resize -q --shrink tail.qcow2 4100K
"$tools/qemu-img" resize -q tail.qcow2 8M
"$tools/qemu-io" -r -c 'read -P 7 4M 64k' tail.qcow2 | tee read.log
! grep -q 'verification failed' read.log || { echo 'the behaviour has changed: the bytes are lost' >&2; exit 1; }
rm -f nbd.sock
"$tools/qemu-nbd" --read-only --persistent --format qcow2 --export-name disk --bitmap nightly --socket "$work/nbd.sock" tail.qcow2 &
server=$!
while [ ! -S nbd.sock ]; do sleep 0.1; done
map=$("$tools/qemu-img" map --output=json --image-opts \
  "driver=nbd,export=disk,server.type=unix,server.path=$work/nbd.sock,x-dirty-bitmap=qemu:dirty-bitmap:nightly")
echo "$map"
grep -q '"start": 4194304, "length": 4096, .*"data": false' <<< "$map" && [ "$(grep -c '"data": false' <<< "$map")" = 1 ] ||
  { echo 'the behaviour has changed' >&2; exit 1; }
echo 'the bytes survive, and their dirty bits do not'
