#!/usr/bin/env bash
# file(1) calls a qcow2 image of a small disk "AES-encrypted", although it is not encrypted.
#
# Seen with file 5.44 (Debian 12, libmagic1 and libmagic-mgc 1:5.44-3) and qemu-img 7.2.22 (1:7.2+dfsg-7+deb12u18+b3): an image of 1 MiB, which
# qemu-img creates without options, is "AES-encrypted". An image of 5 GiB, created in the same way, is not. `qemu-img info` reports no encryption
# for either. An inventory that finds encrypted disks with file(1) reports disks that nobody has encrypted.
#
# Run it on Debian 12 with the libraries of qemu-utils installed. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

apt-get download --quiet 'file=1:5.44-3' 'libmagic1=1:5.44-3' 'libmagic-mgc=1:5.44-3' 'qemu-utils=1:7.2+dfsg-7+deb12u18+b3' > /dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
qemu_img="$work/root/usr/bin/qemu-img"
# type_of FILE; prints what file(1) of the package says, with the package's own library and magic file
type_of() {
  LD_LIBRARY_PATH=$(dirname "$(find root -name 'libmagic.so.1')") root/usr/bin/file --brief --magic-file root/usr/lib/file/magic.mgc "$1"
}

for size in 1M 5G; do
  "$qemu_img" create -q -f qcow2 "disk-$size.qcow2" "$size"
  if "$qemu_img" info "disk-$size.qcow2" | grep -qi '^encrypted'; then echo 'the image is encrypted' >&2; exit 2; fi
  echo "$size: $(type_of "disk-$size.qcow2")"
done
if [[ $(type_of disk-1M.qcow2) != *AES-encrypted* || $(type_of disk-5G.qcow2) = *AES-encrypted* ]]; then
  echo 'the behaviour has changed' >&2
  exit 1
fi
