#!/bin/sh
# First process of a host: LETTER is its name in the cluster, HOME_ its directory. What it mounts ends with it.
set -e
LETTER=$1 HOME_=$2 SHARED=$3
mount -t proc proc /proc
# A Pacemaker that panics writes here, and calls reboot(2), which ends this PID namespace.
touch "$HOME_/sysrq"
[ ! -e /proc/sysrq-trigger ] || mount --bind "$HOME_/sysrq" /proc/sysrq-trigger
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
for path in /etc/corosync /etc/pacemaker /var/lib/pacemaker /var/lib/corosync /var/log/pacemaker /var/log/corosync /run; do
    mkdir -p "$path" "$HOME_/root$path"
    mount --bind "$HOME_/root$path" "$path"
done
mount -t overlay overlay -o "ro,lowerdir=$SHARED/resource.d:/usr/lib/ocf/resource.d" /usr/lib/ocf/resource.d
mount -t overlay overlay -o "ro,lowerdir=$SHARED/sbin:/usr/sbin" /usr/sbin
mkdir -p /run/lock /run/crm /run/lab
chown hacluster:haclient /run/crm
mount --bind "$HOME_" /run/lab
: > /run/booted
# A process that has lost its parent is this one's child: the kernel sees it off.
exec env --ignore-signal=CHLD sleep infinity
