#!/bin/sh
# Makes the Debian that debootstrap has left in this root the laboratory's guest. Runs in a chroot, with mounts and
# processes of its own, which end with it. The guest is reachable from the laboratory's network only, so nothing asks
# for a password.
set -eu
mount -t proc proc /proc
mount -t tmpfs tmpfs /dev/shm

# ── nginx: a static page, what differs at each request, the same over TLS, and the file that `append` writes ──

openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=guest \
    -keyout /etc/ssl/private/guest.key -out /etc/ssl/guest.pem 2> /dev/null
cat > /etc/nginx/sites-available/default << 'END'
server {
    listen 80 default_server reuseport;
    listen 443 ssl default_server reuseport;
    ssl_certificate /etc/ssl/guest.pem;
    ssl_certificate_key /etc/ssl/private/guest.key;
    root /var/www/html;
    location = /id { add_header X-Request-Id $request_id; try_files /index.html =404; }
    location = /log { alias /data/log; default_type text/plain; }
}
END
sed -i 's/^\(\s*\)access_log .*/\1access_log off;/' /etc/nginx/nginx.conf
rm -f /var/www/html/index.nginx-debian.html
mkdir -p /data
touch /data/log

# ── redis ──

sed -i -e 's/^bind .*/bind 0.0.0.0/' -e 's/^protected-mode .*/protected-mode no/' /etc/redis/redis.conf

# ── PostgreSQL, with pgbench's tables. Without its compiler, LLVM: that is a fifth of a disk which is copied whole at
# each protection ──

set -- /etc/postgresql/*/main
cluster=${1%/main} version=${1#/etc/postgresql/}
version=${version%/main}
cat > "$cluster/main/conf.d/guest.conf" << 'END'
listen_addresses = '*'
jit = off
END
echo 'host all all 0.0.0.0/0 trust' >> "$cluster/main/pg_hba.conf"
rm -f /usr/lib/x86_64-linux-gnu/libLLVM-*.so*
pg_ctlcluster "$version" main start
runuser -u postgres -- createdb bench
runuser -u postgres -- pgbench --initialize --quiet bench 2> /dev/null
pg_ctlcluster "$version" main stop
# Debian's unit starts it by a script in Perl, which takes longer than all the rest of the boot under software emulation.
cat > /etc/systemd/system/postgresql.service << END
[Unit]
Description=PostgreSQL
After=network.target
[Service]
Type=notify
User=postgres
RuntimeDirectory=postgresql
ExecStart=/usr/lib/postgresql/$version/bin/postgres -D /var/lib/postgresql/$version/main \\
    -c config_file=$cluster/main/postgresql.conf
KillMode=mixed
KillSignal=SIGINT
[Install]
WantedBy=multi-user.target
END
systemctl --quiet mask "postgresql@$version-main.service" 2> /dev/null

# ── sshd: root, without a password ──

passwd --quiet --delete root
cat > /etc/ssh/sshd_config.d/guest.conf << 'END'
PermitRootLogin yes
PermitEmptyPasswords yes
UsePAM no
END

# ── the network, the laboratory's service, and the line that says that all of them listen ──

cat > /usr/local/sbin/guest-network << 'END'
#!/bin/sh
# Addresses are on the kernel's command line: colo.address=ADDRESS/PREFIX, colo.address2=…
for word in $(cat /proc/cmdline); do
    case $word in
        colo.address=*) first=${word#colo.address=} ;;
        colo.address2=*) second=${word#colo.address2=} ;;
    esac
done
sysctl -q -w net.ipv6.conf.all.disable_ipv6=1
if [ -n "${second:-}" ]; then
    # Both cards are on one LAN: each answers for its own address only.
    sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
    ip address add "$second" dev eth1
    ip link set eth1 txqueuelen 10000 up
fi
if [ -n "${first:-}" ]; then
    ip address add "$first" dev eth0
    ip link set eth0 txqueuelen 10000 up
fi
END
chmod 755 /usr/local/sbin/guest-network
units=/etc/systemd/system
cat > $units/guest-network.service << 'END'
[Unit]
Description=Addresses from the kernel's command line
DefaultDependencies=no
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/guest-network
[Install]
WantedBy=multi-user.target
END
cat > $units/guest-service.service << 'END'
[Unit]
Description=The laboratory's service
After=network.target
[Service]
Type=forking
ExecStart=/usr/local/sbin/guest-service /usr/local/share/pattern
[Install]
WantedBy=multi-user.target
END
cat > $units/guest-ready.service << 'END'
[Unit]
Description=Say on the console that all services listen
After=guest-service.service nginx.service redis-server.service ssh.service postgresql.service
[Service]
Type=oneshot
RemainAfterExit=yes
StandardOutput=file:/dev/console
ExecStart=/bin/sh -c 'read up idle < /proc/uptime; echo "guest ready after $up s"'
[Install]
WantedBy=multi-user.target
END
systemctl --quiet enable postgresql acpid guest-network guest-service guest-ready 2> /dev/null
# The power button
printf 'event=button/power.*\naction=/sbin/poweroff\n' > /etc/acpi/events/power
# What would run at an hour of its own has no place in a guest whose load is measured, and what is not asked for takes
# its time at the boot.
systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    e2scrub_reap.service systemd-pstore.service getty@tty1.service getty-static.service serial-getty@ttyS0.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service sys-kernel-debug.mount sys-kernel-tracing.mount \
    dev-hugepages.mount proc-sys-fs-binfmt_misc.automount modprobe@configfs.service modprobe@dm_mod.service \
    modprobe@drm.service modprobe@fuse.service modprobe@loop.service systemd-modules-load.service \
    systemd-logind.service systemd-user-sessions.service 2> /dev/null
mkdir -p /etc/systemd/system.conf.d
printf '[Manager]\nShowStatus=no\n' > /etc/systemd/system.conf.d/guest.conf
echo guest > /etc/hostname
echo '127.0.0.1 localhost guest' > /etc/hosts
systemd-machine-id-setup > /dev/null 2>&1

# ── what is not read there ──

apt-get clean
find /var/lib/apt/lists -mindepth 1 -delete
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /usr/share/i18n/* /var/log/*.log /var/cache/debconf/*-old
umount /dev/shm
