#!/bin/busybox sh
# The first process of the laboratory's guest: network, services, and the line "guest ready" on the console.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /run /tmp /root
mount -t devpts devpts /dev/pts
for module in /modules/*.ko; do insmod "$module"; done
for word in $(cat /proc/cmdline); do
    case $word in
        colo.address=*) address=${word#colo.address=} ;;
        colo.address2=*) second=${word#colo.address2=} ;;
    esac
done
left=50
while [ ! -e /sys/class/net/eth0 ] && [ $left -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
ip link set lo up
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 2> /dev/null
ip address add "$address" dev eth0
ifconfig eth0 txqueuelen 10000 up
if [ -n "$second" ]; then
    # Both cards are on one LAN: each answers for its own address only.
    echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore
    echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce
    ip address add "$second" dev eth1
    ifconfig eth1 txqueuelen 10000 up
fi
if [ -b /dev/vda ]; then
    mkdir -p /data
    mount -t ext4 /dev/vda /data 2> /dev/null || { mke2fs -q /dev/vda && mount -t ext4 /dev/vda /data; }
    touch /data/log
    ln -s /data/log /www/log
fi
# The power button, which `virsh shutdown` presses.
mkdir -p /etc/acpi/PWRF /var/log /var/run
printf '#!/bin/sh\npoweroff -f\n' > /etc/acpi/PWRF/00000080
chmod 755 /etc/acpi/PWRF/00000080
acpid 2> /dev/null
hostname guest
/bin/service /pattern
httpd -p 80 -h /www
if [ -x /usr/sbin/dropbear ]; then /usr/sbin/dropbear -E -B -R -p 22 2> /dev/null; fi
if [ -x /usr/bin/iperf3 ]; then /usr/bin/iperf3 --server --daemon; fi
echo "guest ready after $(cut -d' ' -f1 /proc/uptime) s"
while :; do sleep 3600; done
