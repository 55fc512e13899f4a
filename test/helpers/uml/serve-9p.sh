#!/bin/bash
# diod, in the guest: exports /run/server by 9p, and mounts it for two clients. Each client has a network of its own.
set -e
mkdir -p /run/mnt/9p /run/mnt/9p-other
diod --no-auth --foreground --listen 0.0.0.0:5640 --export /run/server --logdest stderr < /dev/null > /dev/null 2>&1 &
options=trans=tcp,port=5640,aname=/run/server,version=9p2000.L,access=any,uname=root
until mount -t 9p -o "$options" 127.0.0.1 /run/mnt/9p 2> /dev/null; do sleep 0.1; done
nsenter --net=/run/netns/other mount -t 9p -o "$options" 10.0.0.1 /run/mnt/9p-other
