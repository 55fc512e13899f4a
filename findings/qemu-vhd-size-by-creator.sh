#!/usr/bin/env bash
# QEMU 7.2 drops the end of a VHD if it does not know the program that created it, and exits with 0.
#
# Seen with qemu-img 7.2.22 (Debian 12, qemu-utils 1:7.2+dfsg-7+deb12u18+b3): two fixed VHDs differ only in the creator in their footer, "win "
# (Hyper-V) and "vbox" (VirtualBox). Both state the same Current Size. QEMU converts the first to a disk of that size. For the second it takes the
# size from the disk geometry, which is rounded down to whole cylinders: the last 99840 bytes are missing from the result.
#
# Run it on Debian 12 with the libraries of qemu-utils installed, and Python 3. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

apt-get download --quiet 'qemu-utils=1:7.2+dfsg-7+deb12u18+b3' > /dev/null 2>&1
dpkg-deb -x qemu-utils_*.deb qemu
qemu_img="$work/qemu/usr/bin/qemu-img"
"$qemu_img" --version | head -n 1

cat > make_vhd.py << 'PYTHON'
import struct

SIZE = 100 * 1024 * 1024 + 7 * 512
SECTORS = SIZE // 512
# The geometry of the VHD specification for this number of sectors: 1003 cylinders, 12 heads, 17 sectors per track.
CYLINDERS, HEADS, SECTORS_PER_TRACK = 1003, 12, 17
assert CYLINDERS == SECTORS // SECTORS_PER_TRACK // HEADS

for creator in (b"win ", b"vbox"):
    head = (b"conectix", 2, 0x10000, 0xFFFFFFFFFFFFFFFF, 0x2A000000, creator, 0x10000, b"Wi2k", SIZE, SIZE, CYLINDERS, HEADS, SECTORS_PER_TRACK, 2)
    footer = struct.pack(">8sIIQI4sI4sQQHBBII", *head, 0) + bytes(range(16)) + b"\0"
    footer = footer.ljust(512, b"\0")
    footer = footer[:64] + struct.pack(">I", ~sum(footer) & 0xFFFFFFFF) + footer[68:]
    with open(f"{creator.decode().strip()}.vhd", "wb") as file:
        file.write(bytes(SIZE - 512) + b"E" * 512 + footer)
print(f"Current Size: {SIZE}, geometry: {CYLINDERS * HEADS * SECTORS_PER_TRACK * 512}")
PYTHON
python3 make_vhd.py

for creator in win vbox; do
  "$qemu_img" convert -f vpc -O raw "$creator.vhd" "$creator.raw"
  echo "$creator: $(stat -c %s "$creator.raw") bytes, the last sector begins with '$(tail -c 512 "$creator.raw" | head -c 3 | tr '\0' '0')'"
done
if [ "$(stat -c %s win.raw)" -ne 104861184 ] || [ "$(stat -c %s vbox.raw)" -ne 104761344 ]; then
  echo 'the behaviour has changed' >&2
  exit 1
fi
