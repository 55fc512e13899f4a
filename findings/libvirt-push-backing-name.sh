#!/usr/bin/env bash
# An incremental backup of libvirt in push mode names the running disk as its backing file, and not the backup that it counts from. Opened as it
# is, it shows the live disk wherever the guest had not written between the two backups: bytes of a later time.
#
# The guess was that it names no backing file, because it is only a list of what has changed. libvirt names one whenever it makes the target
# itself. KubeVirt 1.8.0 lets libvirt make it (BackupBegin without VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL).
#
# Seen with libvirt 9.0.0-4+deb12u2 and QEMU 1:7.2+dfsg-7+deb12u18+b3: the increment's backing file is disk.qcow2. The guest writes to 1 MiB after
# the increment was made, and the increment, opened with its own backing name, shows that write. After `qemu-img rebase -u` to the full backup it
# shows the disk of its time.
#
# Run it on Debian 12 as root. The packages are installed in an overlay of the root file system, which ends with the script. It fails when the
# behaviour has changed.
set -euo pipefail

if [ "${1:-}" != inside ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  unshare --mount --pid --fork --kill-child "$(realpath "$0")" inside "$work"
  exit
fi

work=$2
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
mount -t proc proc "$work/root/proc"
mount --rbind /dev "$work/root/dev"
mount --rbind /sys "$work/root/sys"
mount -t tmpfs tmpfs "$work/root/tmp"
chmod 1777 "$work/root/tmp"
cat > "$work/root/usr/sbin/policy-rc.d" << 'POLICY'
#!/bin/sh
exit 101
POLICY
chmod 755 "$work/root/usr/sbin/policy-rc.d"

cat > "$work/root/root/show.sh" << 'SHOW'
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
libvirt=9.0.0-4+deb12u2
qemu=1:7.2+dfsg-7+deb12u18+b3
apt-get install --yes --quiet --no-install-recommends --allow-downgrades libvirt-daemon=$libvirt libvirt-daemon-driver-qemu=$libvirt \
  libvirt-clients=$libvirt libvirt0=$libvirt "qemu-system-x86=$qemu" "qemu-utils=$qemu" > /tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }

mkdir -m 700 /tmp/lv
cd /tmp/lv
chown daemon:daemon /tmp/lv
as_user() { setpriv --reuid=daemon --regid=daemon --clear-groups env HOME=/tmp/lv XDG_RUNTIME_DIR=/tmp/lv XDG_CONFIG_HOME=/tmp/lv/c XDG_CACHE_HOME=/tmp/lv/k "$@"; }
virsh() { as_user /usr/bin/virsh -q -c qemu:///session "$@"; }
as_user /usr/sbin/libvirtd > libvirtd.log 2>&1 &
for _ in $(seq 100); do virsh version > /dev/null 2>&1 && break; sleep 0.1; done
virsh version

as_user qemu-img create -q -f qcow2 disk.qcow2 4M
cat > domain.xml << 'XML'
<domain type='qemu'><name>guest</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/tmp/lv/disk.qcow2'/><target dev='vda' bus='virtio'/></disk>
</devices></domain>
XML
virsh define domain.xml
virsh start guest
guest_writes() { virsh qemu-monitor-command --hmp guest "qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend \"write -P $1\"" > /dev/null; }

# back_up NAME [SINCE]
back_up() {
  local since=''
  [ -z "${2:-}" ] || since="<incremental>$2</incremental>"
  echo "<domainbackup mode='push'>$since<disks><disk name='vda' backup='yes' type='file'><driver type='qcow2'/>
    <target file='/tmp/lv/$1.qcow2'/></disk></disks></domainbackup>" > backup.xml
  echo "<domaincheckpoint><name>$1</name></domaincheckpoint>" > checkpoint.xml
  virsh backup-begin guest backup.xml checkpoint.xml > /dev/null
  while ! virsh domjobinfo guest | grep -q None; do sleep 0.1; done
}

guest_writes '1 0 4M'
back_up full
guest_writes '2 0 64k'
back_up increment full
guest_writes '3 1M 64k'
virsh destroy guest
qemu-img info increment.qcow2 | grep '^backing file:' || { echo 'the behaviour has changed: the increment names no backing file' >&2; exit 1; }
shows() { qemu-io -r -c "read -P $2 1M 64k" "$1" | grep -q 'Pattern verification failed' && return 1 || return 0; }
shows increment.qcow2 3 || { echo 'the behaviour has changed: the increment does not show the later write' >&2; exit 1; }
qemu-img rebase -u -b full.qcow2 -F qcow2 increment.qcow2
shows increment.qcow2 1 || { echo 'the rebased increment is wrong' >&2; exit 1; }
echo 'opened as it is, the increment shows bytes that the guest wrote after it'
SHOW
chroot "$work/root" bash /root/show.sh
