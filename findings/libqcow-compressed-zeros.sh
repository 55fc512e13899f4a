#!/usr/bin/env bash
# libqcow reads some compressed clusters as zeros and reports no error.
#
# Seen with libqcow-python 20260703 and qemu-img 7.2.22 (Debian 12, qemu-utils 1:7.2+dfsg-7+deb12u18+b3): `qemu-img convert -c` of 1 MiB of
# base64 text makes a qcow2 with zlib clusters of 64 KiB. QEMU reads it back unchanged. libqcow returns 65536 zero bytes for 4 of the 16
# clusters, one read at a time and all at once. Clusters of 2 MiB are read correctly. A copy made by a program that uses libqcow is wrong and
# looks complete, so compare such a copy with what QEMU reads.
#
# Run it on Debian 12 with the libraries of qemu-utils and Python 3.11 or newer. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

apt-get download --quiet 'qemu-utils=1:7.2+dfsg-7+deb12u18+b3' > /dev/null 2>&1
dpkg-deb -x qemu-utils_*.deb qemu
qemu_img="$work/qemu/usr/bin/qemu-img"
"$qemu_img" --version | head -n 1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check libqcow-python==20260703

cat > compare.py <<'PYTHON'
import base64, random, subprocess, sys
import pyqcow

qemu_img = sys.argv[1]
random.seed(1)
disk = base64.b64encode(random.randbytes(786432))
open("disk.raw", "wb").write(disk)


def wrong_clusters(cluster_bytes):
    options = ["-O", "qcow2", "-c", "-o", f"compression_type=zlib,cluster_size={cluster_bytes}"]
    subprocess.run([qemu_img, "convert", "-f", "raw", *options, "disk.raw", "disk.qcow2"], check=True)
    subprocess.run([qemu_img, "convert", "-f", "qcow2", "-O", "raw", "disk.qcow2", "back.raw"], check=True)
    assert open("back.raw", "rb").read() == disk, "QEMU reads the image back unchanged"
    image = pyqcow.file()
    image.open("disk.qcow2")
    wrong = 0
    for offset in range(0, len(disk), 65536):
        image.seek(offset)
        content = image.read(65536)
        if content != disk[offset : offset + 65536]:
            assert content == bytes(65536), "what differs is zeros"
            wrong += 1
    return wrong


small, large = wrong_clusters(65536), wrong_clusters(2097152)
print(f"clusters of 64 KiB that libqcow reads as zeros: {small} of {len(disk) // 65536}")
print(f"pieces of 64 KiB in clusters of 2 MiB:          {large} of {len(disk) // 65536}")
sys.exit(0 if small > 0 and large == 0 else "the behaviour has changed")
PYTHON
venv/bin/python compare.py "$qemu_img"
