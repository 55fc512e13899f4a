#!/bin/bash
# Samba, in the guest: shares /run/server, and mounts it for two clients. Each client has a network of its own.
set -e
mkdir -p /run/samba /run/mnt/smb /run/mnt/smb-other /run/mnt/smb-nobrl /run/mnt/smb-nobrl-other
{
  printf '[global]\nserver role = standalone server\nsmb ports = 445\ndisable netbios = yes\ndisable spoolss = yes\nload printers = no\nlog file = /run/samba/log\n'
  for kind in private lock state cache pid ncalrpc; do
    mkdir "/run/samba/$kind"
    case $kind in ncalrpc) word=dir ;; *) word=directory ;; esac
    printf '%s %s = /run/samba/%s\n' "$kind" "$word" "$kind"
  done
  printf '[disks]\npath = /run/server\nread only = no\nforce user = root\n'
} > /run/samba/smb.conf
mount -t tmpfs tmpfs /var/log/samba
printf 'secret\nsecret\n' | smbpasswd -c /run/samba/smb.conf -a -s root > /dev/null
smbd -D -s /run/samba/smb.conf
until (exec 3<> /dev/tcp/127.0.0.1/445) 2> /dev/null; do sleep 0.1; done

login=vers=3.1.1,username=root,password=secret
mount -t cifs -o "$login" //127.0.0.1/disks /run/mnt/smb
nsenter --net=/run/netns/other mount -t cifs -o "$login" //10.0.0.1/disks /run/mnt/smb-other
mount -t cifs -o "$login,nobrl,nosharesock" //127.0.0.1/disks /run/mnt/smb-nobrl
nsenter --net=/run/netns/other mount -t cifs -o "$login,nobrl,nosharesock" //10.0.0.1/disks /run/mnt/smb-nobrl-other
