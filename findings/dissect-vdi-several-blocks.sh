#!/usr/bin/env bash
# dissect.hypervisor returns wrong bytes for a read of several blocks of a dynamic VDI, and reports no error.
#
# Seen with dissect.hypervisor 3.21 and qemu-img 7.2.22 (Debian 12, qemu-utils 1:7.2+dfsg-7+deb12u18+b3): a VDI of 8 MiB with data in its
# blocks 0, 3 and 6. Reads of 1 MiB, one block each, return what QEMU reads. One read of the whole disk returns block 0 and then the
# bytes that follow it in the file. Data of block 3 stands where block 1 has zeros, and the read ends early.
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
venv/bin/pip install --quiet --disable-pip-version-check dissect.hypervisor==3.21

"$tools/qemu-img" create -q -f vdi disk.vdi 8M
for block in 0 3 6; do "$tools/qemu-io" -f vdi -c "write -P 0x3$block ${block}M 1M" disk.vdi > /dev/null; done
"$tools/qemu-img" convert -f vdi -O raw disk.vdi disk.raw

cat > compare.py <<'PYTHON'
import sys
from dissect.hypervisor.disk.vdi import VDI

disk = open("disk.raw", "rb").read()
mib = 1048576


def shape(content):
    return "".join(chr(content[offset] or 46) for offset in range(0, len(content), mib))


image = VDI(open("disk.vdi", "rb"))
by_blocks = b"".join(chunk for chunk in iter(lambda stream=image.open(): stream.read(mib), b""))
at_once = image.open().read()
print(f"QEMU:                       {shape(disk)}")
print(f"dissect, reads of one block: {shape(by_blocks)}")
print(f"dissect, one read:           {shape(at_once)}")
sys.exit(0 if by_blocks == disk and at_once != disk else "the behaviour has changed")
PYTHON
venv/bin/python compare.py
