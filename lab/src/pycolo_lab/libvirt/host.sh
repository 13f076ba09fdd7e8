#!/bin/sh
# First process of a host: DISK is its directory, ROOT another Debian that its libvirt lives in (empty: this one),
# ACCELERATOR its guests'. What it mounts ends with it.
set -e
DISK=$2 ROOT=$3 ACCELERATOR=$4
mount -t proc proc /proc
umount --lazy --recursive /sys # with the cgroups, which two hosts would share
mount -t sysfs sysfs /sys
for path in /etc /var/lib /var/cache /var/log; do
    mkdir -p "$DISK/root$path" "$DISK/scratch$path"
    mount -t overlay overlay -o "lowerdir=$path,upperdir=$DISK/root$path,workdir=$DISK/scratch$path" "$path"
done
# Its /dev has what a QEMU may need. A /dev/kvm that can be opened, and runs no guest, would have libvirt ask QEMU anew
# what it can do, at every turn.
[ "$ACCELERATOR" = tcg ] || kvm=/dev/kvm
mkdir -p "$DISK/dev"
mount -t tmpfs -o mode=0755 dev "$DISK/dev"
for path in /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/ptmx /dev/net /dev/fd /dev/std* $kvm; do
    cp -a "$path" "$DISK/dev"
done
mkdir "$DISK/dev/pts" "$DISK/dev/shm"
mount --bind /dev/pts "$DISK/dev/pts"
mount -t tmpfs -o mode=1777 shm "$DISK/dev/shm"
umount --lazy --recursive /dev # what is mounted below it twice, libvirt cannot move
mount --rbind "$DISK/dev" /dev
mkdir -p "$DISK/root/run"
mount --bind "$DISK/root/run" /run
folders="/etc/libvirt /etc/colo /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /run"
mkdir -p $folders /var/lib/colo
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
    mkdir -p "$ROOT/lab"
    mount --rbind "${DISK%/*}" "$ROOT/lab"
    for path in /etc/passwd /etc/group; do mount --bind "$path" "$ROOT$path"; done
fi
: >/run/booted
# A process that has lost its parent is this one's child; libvirt waits until a QEMU that has ended is gone.
exec env --ignore-signal=CHLD sleep infinity
