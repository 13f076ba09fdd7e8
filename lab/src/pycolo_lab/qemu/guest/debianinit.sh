#!/bin/busybox sh
# The first process of a Debian guest: drivers, then the root file system, then the init that is there.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do insmod "$module"; done
root=/dev/vda
for word in $(cat /proc/cmdline); do
    case $word in root=*) root=${word#root=} ;; esac
done
left=100
while [ ! -b "$root" ] && [ $left -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
mkdir -p /new
mount -t ext4 -o noatime "$root" /new
mount --move /dev /new/dev
umount /sys /proc
exec switch_root /new /sbin/init
