#!/usr/bin/env bash
# QEMU reads the first extent of a VMDK twice if a blank line precedes it, and exits with 0.
#
# Seen with qemu-img 7.2.22 (Debian 12, qemu-utils 1:7.2+dfsg-7+deb12u18+b3): three flat extents of 64 KiB hold "1", "2" and "3". The
# converted disk is "1", "1", "2", "3", one extent longer than the descriptor says. With a comment in place of the blank line it is "1", "2",
# "3". Descriptors that people or other tools than VMware's write have such lines.
#
# Run it on Debian 12 with the libraries of qemu-utils installed. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

apt-get download --quiet 'qemu-utils=1:7.2+dfsg-7+deb12u18+b3' > /dev/null 2>&1
dpkg-deb -x qemu-utils_*.deb qemu
qemu_img="$work/qemu/usr/bin/qemu-img"
"$qemu_img" --version | head -n 1

for number in 1 2 3; do
  head -c 65536 /dev/zero | tr '\0' "$number" > "disk-f00$number.vmdk"
done

# descriptor SEPARATOR NAME
descriptor() {
  {
    printf '# Disk DescriptorFile\nversion=1\nCID=7e5b80a7\nparentCID=ffffffff\ncreateType="twoGbMaxExtentFlat"\n%s\n' "$1"
    for number in 1 2 3; do printf 'RW 128 FLAT "disk-f00%s.vmdk" 0\n' "$number"; done
    printf '#DDB\nddb.adapterType = "ide"\n'
  } > "$2"
}

# The first byte of each 64 KiB of the converted disk.
extents_of() {
  "$qemu_img" convert -f vmdk -O raw "$1" "$1.raw"
  for ((offset = 0; offset < $(stat -c %s "$1.raw"); offset += 65536)); do
    dd if="$1.raw" bs=1 skip="$offset" count=1 status=none
  done
}

descriptor '# Extent description' comment.vmdk
descriptor '' blank.vmdk

with_comment=$(extents_of comment.vmdk)
with_blank_line=$(extents_of blank.vmdk)
echo "with a comment in front of the extents: $with_comment"
echo "with a blank line in front of them:     $with_blank_line"
[ "$with_comment" = 123 ] && [ "$with_blank_line" != 123 ] && [ "${with_blank_line:0:2}" = 11 ] || { echo 'the behaviour has changed' >&2; exit 1; }
