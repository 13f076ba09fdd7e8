#!/usr/bin/env bash
# Installs pycolo's Debian package, uses it, adds the laboratory's, uses that, and purges both: in a bare root only, where
# nothing else gets in their way.
#
#   tar -cC dist A B | scripts/bare.sh bookworm scripts/check_deb.sh A B        A: pycolo_….deb, B: pycolo-lab_….deb
#
# Prints one line for each when all is well.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ $(id -u) == 0 ]] || { echo "error: scripts/check_deb.sh: only as root, only in a bare root" >&2 && exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(($# == 2)) || { echo "usage: scripts/check_deb.sh PYCOLO_DEB PYCOLO_LAB_DEB <ARCHIVE" >&2 && exit 2; }
package=$scratch/$1
lab=$scratch/$2
tar -xC "$scratch"
chmod 755 "$scratch" # APT reads it as another user
cd /
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

die() {
    printf 'error: %s: %s\n' "$(basename "$package")" "$*" >&2
    exit 1
}
quietly() { "$@" >"$scratch/said" 2>&1 || { tail -n 20 "$scratch/said" >&2 && die "$* failed"; }; }

quietly apt-get -q update
remains() {
    find /etc /usr /var \( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache \) -prune -o \
        \( -name 'pycolo*' -o -name colo -o -name 'colo[.@-]*' -o -name _colo \) -print
}
[[ -z $(remains) ]] || die "it was here before"
quietly apt-get -q install --yes --no-install-recommends "$package" man-db

# As Debian's autopkgtest would, from the source tree.
quietly env --chdir "$here/.." debian/tests/command-line
compared=$(cd "$here/.." && debian/tests/compare) || die "does not compare"
for page in colo colo-node colo-proxy; do
    quietly man --warnings --local-file "$(man --where "$page")"
    if grep -q 'warning' "$scratch/said"; then die "man $page: $(grep warning "$scratch/said" | sed 1q)"; fi
done
getent passwd colo >/dev/null || die "there is no user colo"
for unit in colo@vm1 colo-proxy@vm1; do
    quietly systemd-analyze verify "$unit.service"
    said=$(grep -F "${unit%vm1}" "$scratch/said" || true)
    [[ -z $said ]] || die "systemd-analyze: $said"
done
# shellcheck disable=SC2016 # the inner shell's
quietly bash -c 'source /usr/share/bash-completion/completions/colo && complete -p colo &&
    COMP_WORDS="colo fail" COMP_CWORD=1 _COLO_COMPLETE=bash_complete colo | grep -q failover'

# Pacemaker finds the resource agent, and nothing runs yet.
agent=/usr/lib/ocf/resource.d/pycolo/colo
quietly "$agent" meta-data
found=0
OCF_RESKEY_config=/etc/colo/vm1.toml "$agent" monitor >"$scratch/said" 2>&1 || found=$?
[[ $found == 7 ]] || die "$agent monitor ends with $found"

# The proxy runs as the user colo: its group may use the sockets, and a signal ends it.
install -d -o colo -g colo -m 750 /run/colo-proxy /run/colo-proxy/vm1
options=$(sed -n '/^#   OPTIONS=/,/^#$/{s/^# *//; s/^OPTIONS=//; s/\\$//; p}' /lib/systemd/system/colo-proxy@.service)
# shellcheck disable=SC2086 # as systemd splits it
(umask 007 && exec setpriv --reuid colo --regid colo --init-groups colo proxy $options) >"$scratch/said" 2>&1 &
proxy=$!
for _ in {1..100}; do
    [[ -S /run/colo-proxy/vm1/out ]] && break
    sleep 0.1
done
mode=$(stat --format '%A %U:%G' /run/colo-proxy/vm1/out) || { tail -n 5 "$scratch/said" >&2 && die "colo proxy does not listen"; }
[[ $mode == "srwxrwx--- colo:colo" ]] || die "colo proxy's socket is $mode"
kill "$proxy"
wait "$proxy" || die "colo proxy ends with $?"
rm -r /run/colo-proxy

printf '%s: installed, used; %s\n' "$(basename "$package")" "$compared"

quietly apt-get -q install --yes --no-install-recommends "$lab"
quietly env --chdir "$here/.." debian/tests/laboratory
for page in colo-demo colo-lab colo-lab-qemu; do
    quietly man --warnings --local-file "$(man --where "$page")"
    if grep -q 'warning' "$scratch/said"; then die "man $page: $(grep warning "$scratch/said" | sed 1q)"; fi
done
# shellcheck disable=SC2016 # the inner shell's
quietly bash -c 'source /usr/share/bash-completion/completions/colo &&
    COMP_WORDS="colo de" COMP_CWORD=1 _COLO_COMPLETE=bash_complete colo | grep -q demo'
quietly colo demo --seconds 3 --sessions 5 --no-report
kept=$(tail -n 1 "$scratch/said")

mkdir -p /var/lib/colo/vm1 # as a node that has run leaves it
quietly apt-get -q purge --yes pycolo-lab pycolo
left=$(remains)
[[ -z $left ]] || die "its removal leaves $left"
printf '%s: installed, used, both purged; colo demo: %s\n' "$(basename "$lab")" "${kept#* }"
