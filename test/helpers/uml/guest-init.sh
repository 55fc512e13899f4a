#!/bin/bash
# First process of a User Mode Linux guest. The guest's root is the host's, read-only; all that programs write lies in memory.
# DISKLIFT_SHARE is a directory of the host that both can write to. The host sends "run ID" on the console: the guest runs the file
# ID.sh of that directory, reports "started ID PID" and "ended ID CODE", and leaves its output in ID.out and ID.err.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
stty -echo -onlcr
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/tmp /run/share /run/modules/lib
export TMPDIR=/run/tmp
mount -t hostfs none /run/share -o "$DISKLIFT_SHARE"
mkdir -p /dev/shm /dev/pts
ln -s /proc/self/fd /dev/fd
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
ip link set lo up

# modprobe searches below /lib/modules, where the host has no modules of this kernel.
ln -s /usr/lib/uml/modules /run/modules/lib/modules
printf '#!/bin/sh\nexec modprobe -d /run/modules "$@"\n' > /run/modprobe
chmod +x /run/modprobe
echo /run/modprobe > /proc/sys/kernel/modprobe

serve() {
  bash -o pipefail "/run/share/$1.sh" > "/run/share/$1.out" 2> "/run/share/$1.err" < /dev/null &
  echo "started $1 $!"
  wait $!
  echo "ended $1 $?"
}

echo ready
while read -r verb id; do
  [ "$verb" = run ] && serve "$id" &
done

# The host has ended, or has no more commands.
echo o > /proc/sysrq-trigger
sleep 60
