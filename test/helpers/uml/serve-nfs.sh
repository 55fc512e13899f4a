#!/bin/bash
# The kernel's NFS server, in the guest: exports /run/server, and mounts it for two clients. Each client has a network of its own.
set -e
mount -t tmpfs tmpfs /var/lib/nfs
mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/v4recovery
touch /var/lib/nfs/etab /var/lib/nfs/rmtab /var/lib/nfs/state
/run/modprobe nfsd
mount -t nfsd nfsd /proc/fs/nfsd
# A server that has just started grants no new locks for a while; here no client has locks to reclaim.
echo 1 > /proc/sys/fs/nfs/nlm_grace_period
rpcbind
rpc.statd --no-notify
exportfs -i -o rw,no_root_squash,no_subtree_check,fsid=0 '*:/run/server'
rpc.mountd 2> /dev/null
rpc.nfsd 4
echo Y > /proc/fs/nfsd/v4_end_grace

for name in nfs-4.2 nfs-4.0 nfs-3 nfs-3-nolock; do mkdir -p "/run/mnt/$name" "/run/mnt/$name-other"; done
for version in 4.2 4.0; do
  mount -t nfs -o "vers=$version" 127.0.0.1:/ "/run/mnt/nfs-$version"
  # The server distinguishes clients by their host names.
  nsenter --net=/run/netns/other unshare --uts sh -c "hostname other && mount -t nfs -o vers=$version 10.0.0.1:/ /run/mnt/nfs-$version-other"
done
mount -t nfs -o vers=3 127.0.0.1:/run/server /run/mnt/nfs-3
mount -t nfs -o vers=3,nosharecache 127.0.0.1:/run/server /run/mnt/nfs-3-other
mount -t nfs -o vers=3,nolock,nosharecache 127.0.0.1:/run/server /run/mnt/nfs-3-nolock
mount -t nfs -o vers=3,nolock,nosharecache 127.0.0.1:/run/server /run/mnt/nfs-3-nolock-other
