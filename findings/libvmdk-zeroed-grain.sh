#!/usr/bin/env bash
# libvmdk reads a zeroed grain of a VMDK as the start of the VMDK file, and reports no error.
#
# Seen with libvmdk-python 20260714 and qemu-img 7.2.22 (Debian 12, qemu-utils 1:7.2+dfsg-7+deb12u18+b3): a VMDK with `zeroed_grain=on` marks a
# grain that the guest zeroed by the grain table entry 1. QEMU reads zeros there. libvmdk takes the entry for sector 1 of the file, which
# is the descriptor: the 64 KiB of the grain begin with "# Disk DescriptorFile". The other grains are right.
#
# Run it on Debian 12 with the libraries of qemu-utils and Python 3.11 or newer. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

apt-get download --quiet 'qemu-utils=1:7.2+dfsg-7+deb12u18+b3' > /dev/null 2>&1
dpkg-deb -x qemu-utils_*.deb qemu
tools="$work/qemu/usr/bin"
"$tools/qemu-img" --version | head -n 1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check libvmdk-python==20260714

"$tools/qemu-img" create -q -f vmdk -o zeroed_grain=on disk.vmdk 1M
"$tools/qemu-io" -f vmdk -c 'write -P 0x41 0 192k' -c 'write -z 64k 64k' disk.vmdk > /dev/null
"$tools/qemu-img" convert -f vmdk -O raw disk.vmdk disk.raw

cat > compare.py <<'PYTHON'
import sys
import pyvmdk

disk = open("disk.raw", "rb").read()
assert disk[:196608] == b"A" * 65536 + bytes(65536) + b"A" * 65536, "QEMU reads the guest's zeros"
image = pyvmdk.handle()
image.open("disk.vmdk")
image.open_extent_data_files()
content = image.read(image.get_media_size())
print(f"QEMU:    the zeroed grain begins with {disk[65536:65557]}")
print(f"libvmdk: the zeroed grain begins with {content[65536:65557]}")
is_rest_right = content[:65536] == disk[:65536] and content[131072:] == disk[131072:]
sys.exit(0 if content[65536:65557] == b"# Disk DescriptorFile" and is_rest_right else "the behaviour has changed")
PYTHON
venv/bin/python compare.py
