#!/bin/busybox sh
# The first process of a guest whose memory is compared. It becomes the writer: no other process runs.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do insmod "$module"; done
for word in $(cat /proc/cmdline); do
    case $word in colo.writers=*) writers=${word#colo.writers=} ;; esac
done
echo "guest ready after $(cut -d' ' -f1 /proc/uptime) s"
exec /bin/writer "$writers"
