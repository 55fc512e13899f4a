#!/bin/bash
# The first process of a node: namespaces.sh DIRECTORY NODE COMMAND..., within unshare --net --mount --pid --uts --ipc --mount-proc.
# The node's /var/lib and /var/log lie in the directory; its /run, /mnt and network end with the node.
# Each line of DIRECTORY/receivers has an address and a name.
set -eu
directory=$1 node=$2
shift 2

mkdir -p "$directory/lib" "$directory/log"
mount --bind "$directory/lib" /var/lib
mount --bind "$directory/log" /var/log
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lock
# Volumes are mounted below it.
mount -t tmpfs tmpfs /mnt

# Without these the kubelet queries a name server for its own name, for 20 seconds each time.
printf '127.0.0.1 localhost\n10.88.0.1 %s\n' "$node" > "$directory/hosts"
cat "$directory/receivers" >> "$directory/hosts"
mount --bind "$directory/hosts" /etc/hosts
: > "$directory/resolv.conf"
resolv_conf=$(readlink -m /etc/resolv.conf)
mkdir -p "$(dirname "$resolv_conf")"
touch "$resolv_conf"
mount --bind "$directory/resolv.conf" "$resolv_conf"
hostname "$node"

# The pods' bridge is the node's only network: nothing leaves this machine.
ip link set lo up
ip link add disklift0 type bridge
ip address add 10.88.0.1/16 dev disklift0
ip link set disklift0 up
ip route add default dev disklift0
# Receivers have addresses that no pod has.
while read -r address _; do ip address replace "$address/32" dev lo; done < "$directory/receivers"
echo 1 > /proc/sys/net/ipv4/ip_forward

# As the first process bash reaps processes that have lost their parent.
"$@" &
wait $!
