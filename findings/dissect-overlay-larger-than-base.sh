#!/usr/bin/env bash
# dissect.hypervisor moves data when it reads an overlay that is larger than its backing file.
#
# Seen with dissect.hypervisor 3.21 and qemu-img 7.2.22 (Debian 12, qemu-utils 1:7.2+dfsg-7+deb12u18+b3): a base of 1 MiB, an overlay of 2 MiB
# with data at 1.5 MiB. A disk that grows after a snapshot looks like this. QEMU reads zeros between the end of the base and the data.
# dissect.hypervisor leaves those zeros out: a read of the whole disk ends early without an error, and the data stands at a smaller offset.
# A read that begins at the data is correct.
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

"$tools/qemu-img" create -q -f qcow2 base.qcow2 1M
"$tools/qemu-io" -f qcow2 -c 'write -P 0x42 0 512k' base.qcow2 > /dev/null
"$tools/qemu-img" create -q -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2 2M
"$tools/qemu-io" -f qcow2 -c 'write -P 0x43 1536k 64k' overlay.qcow2 > /dev/null
"$tools/qemu-img" convert -f qcow2 -O raw overlay.qcow2 overlay.raw

cat > compare.py <<'PYTHON'
import sys
from pathlib import Path
from dissect.hypervisor.disk.qcow2 import QCow2

expected = Path("overlay.raw").read_bytes()
image = QCow2(Path("overlay.qcow2")).open()
whole = image.read()
image.seek(1572864)
part = image.read(65536)
print(f"QEMU:    {len(expected)} bytes, the overlay's data at {expected.find(b'C')}")
print(f"dissect: {len(whole)} bytes, the overlay's data at {whole.find(b'C')}; stated size {image.size}")
is_as_seen = len(whole) < len(expected) == image.size and 0 < whole.find(b"C") < expected.find(b"C") and part == b"C" * 65536
sys.exit(0 if is_as_seen else "the behaviour has changed")
PYTHON
venv/bin/python compare.py
