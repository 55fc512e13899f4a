#!/usr/bin/env bash
# The times of a disk behind QEMU's FUSE export follow the clock: no process writes, but its mtime and ctime are "now" at each stat(2).
#
# Seen with qemu-storage-daemon 7.2.22 (Debian 12, qemu-system-common 1:7.2+dfsg-7+deb12u18+b3): two stat(2) calls on a read-only export, two
# seconds apart, return two mtimes, both in whole seconds. A backup that compares times always sees a changed disk there. A backup that compares
# with the clock sees a disk that was written this second.
#
# Run it as root on Debian 12 with the libraries of qemu-system-common installed. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
daemon=''
trap '[ -z "$daemon" ] || { kill "$daemon"; wait "$daemon" || true; }; umount "$work/export" 2> /dev/null || true; rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

apt-get download --quiet 'qemu-system-common=1:7.2+dfsg-7+deb12u18+b3' > /dev/null 2>&1
dpkg-deb -x qemu-system-common_*.deb qemu
storage_daemon="$work/qemu/usr/bin/qemu-storage-daemon"
"$storage_daemon" --version | head -n 1

truncate --size=1M disk.img
touch --date=2020-01-01T00:00:00Z disk.img
touch export
"$storage_daemon" --blockdev driver=file,node-name=disk,filename=disk.img,read-only=on \
  --export type=fuse,id=export,node-name=disk,mountpoint="$work/export" &
daemon=$!
for _ in $(seq 100); do
  [ "$(stat -c %s export)" -eq 0 ] || break
  sleep 0.05
done

file=$(stat -c %Y disk.img)
first=$(stat -c %Y export)
sleep 2
second=$(stat -c %Y export)
echo "the file: $file, the export: $first, and two seconds later: $second"
[ "$file" -eq 1577836800 ] && [ "$first" -gt "$file" ] && [ "$second" -gt "$first" ] || { echo 'the behaviour has changed' >&2; exit 1; }
