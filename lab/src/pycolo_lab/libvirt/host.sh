#!/bin/sh
# First process of a host: DISK is its directory, ROOT another Debian that its libvirt lives in (empty: this one). What
# it mounts ends with it.
set -e
DISK=$2 ROOT=$3
mount -t proc proc /proc
mount -t sysfs sysfs /sys # of this network namespace
for path in /etc /var/lib /var/cache /var/log; do
    mkdir -p "$DISK/root$path" "$DISK/scratch$path"
    mount -t overlay overlay -o "lowerdir=$path,upperdir=$DISK/root$path,workdir=$DISK/scratch$path" "$path"
done
mkdir -p "$DISK/root/run"
mount --bind "$DISK/root/run" /run
folders="/etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /run"
mkdir -p $folders /etc/colo /var/lib/colo /var/log/colo /run/colo
# Debian's libvirt-daemon expects a user that only the package with its services makes.
getent group libvirt-qemu >/dev/null || echo "libvirt-qemu:x:64055:" >>/etc/group
getent group kvm >/dev/null || echo "kvm:x:64056:" >>/etc/group
getent passwd libvirt-qemu >/dev/null ||
    echo "libvirt-qemu:x:64055:64055:Libvirt Qemu:/var/lib/libvirt:/usr/sbin/nologin" >>/etc/passwd
if [ -n "$ROOT" ]; then
    for path in /dev /proc /sys $folders; do
        mkdir -p "$ROOT$path"
        mount --rbind "$path" "$ROOT$path"
    done
    for path in /etc/passwd /etc/group; do mount --bind "$path" "$ROOT$path"; done
fi
: >/run/booted
# Whoever has lost its parent is this process's child; libvirt waits until a QEMU that has ended is gone.
exec env --ignore-signal=CHLD sleep infinity
