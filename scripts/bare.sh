#!/usr/bin/env bash
# Runs a command in a clean clone of HEAD, as root, on a Debian that has nothing but its essential packages, git and
# make, so that a step that set-up forgets shows:
#
#   scripts/bare.sh bookworm make test            Debian 12 and its own Python 3.11
#   scripts/bare.sh trixie make demo              Debian 13 and its own Python 3.13
#
# What was not committed is not there. The command has process and mount namespaces of its own and shares the network;
# whatever it leaves behind goes away with it. The fresh root is made once by debootstrap (installed when it is
# missing) into build/bare, and copied for each run. Needs root.
#
# Mirror, keys and APT's way to them are this machine's, as are pip's settings, certificates and local indexes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly cache=$PWD/build/bare
readonly project=/srv/pycolo                          # in there
readonly certificates=/usr/local/etc/certificates.pem # in there
readonly passed_on=(http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY TERM)
readonly pip_files=(/etc/xdg/pip/pip.conf /etc/pip.conf "$HOME/.pip/pip.conf" "$HOME/.config/pip/pip.conf")

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# ── the fresh root, made once ───────────────────────────────────────────────────────────────────────────────────────

# A field of the first source of this machine's own release, as APT's sources have it.
apt_source() {
    local said
    said=$({ apt-get indextargets --format "\$(COMPONENT) \$(CODENAME) \$($1)" 'Created-By: Packages' || true; } |
        sed -n "s/^main $(. /etc/os-release && printf %s "${VERSION_CODENAME:-}") //p" | sed -n 1p)
    [[ $said == *'$('* ]] || printf %s "$said" # an APT that does not know the field says it back
}

make_base() {
    local release=$1 base=$2 keyring mirror
    local command=(debootstrap --variant=minbase --include=git,make)
    if ! command -v debootstrap >/dev/null; then
        apt-get -qq update || true
        DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends debootstrap >/dev/null ||
            die "debootstrap is missing, and apt-get could not install it"
    fi
    keyring=$(apt_source SIGNED_BY)
    mirror=$(apt_source REPO_URI)
    if [[ -f $keyring ]]; then
        command+=("--keyring=$keyring")
    fi
    rm -rf --one-file-system "$base.unfinished"
    "${command[@]}" "$release" "$base.unfinished" ${mirror:+"$mirror"} >"$base.log" 2>&1 || {
        tail -n 5 "$base.log" >&2
        die "debootstrap could not make a root of $release (full output: $base.log)"
    }
    apt-config dump | sed -n '/^Acquire::IndexTargets/d; /^Acquire::/p' >"$base.unfinished/etc/apt/apt.conf.d/00host"
    # It shares this machine's network: what is installed there must not listen on it.
    printf '#!/bin/sh\nexit 101\n' >"$base.unfinished/usr/sbin/policy-rc.d"
    chmod +x "$base.unfinished/usr/sbin/policy-rc.d"
    mv "$base.unfinished" "$base"
}

# ── a copy of it, with what this machine needs to reach the network ─────────────────────────────────────────────────

pip_settings() { cat "${pip_files[@]}" 2>/dev/null || true; }

# What pip's settings name on this machine: folders, constraints, and local indexes (their files lie beside `simple`).
pip_paths() {
    { pip_settings; env | grep '^PIP_' || true; } |
        grep -oE '(^|[=:[:space:]]|file://)/[^/[:space:]][^[:space:],]*' |
        sed 's|^[^/]*||; s|^//||; s|/simple/*$||' | sort -u
}

furnish() {
    local root=$1 file
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    for file in "${pip_files[@]}"; do
        if [[ -f $file ]]; then
            install -D -m 644 "$file" "$root/${file/#$HOME//root}"
        fi
    done
    # Not at its own path: the package ca-certificates, once installed there, would write over it.
    file=${PIP_CERT:-$(pip_settings | sed -n 's/^cert *[=:] *//p' | tail -n 1)}
    file=${file:-${SSL_CERT_FILE:-}}
    if [[ -f $file ]]; then
        install -D -m 644 "$file" "$root$certificates"
    fi
    GIT_CONFIG_GLOBAL=$scratch/gitconfig git clone --quiet --depth 1 "file://$PWD" "$root$project"
}

# What the command's environment is: nothing but this.
environment() {
    local name
    printf '%s\0' HOME=/root USER=root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    for name in "${passed_on[@]}" $(compgen -e | grep -E '^(PIP|PYCOLO|PYTEST)_'); do
        if [[ -n ${!name:-} && $name != PIP_CERT ]]; then
            printf '%s\0' "$name=${!name}"
        fi
    done
    if [[ -f $1$certificates ]]; then
        printf '%s\0' "PIP_CERT=$certificates"
    fi
}

# ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────────────

# In namespaces of its own: gives $1 its kernel file systems, goes inside, and becomes the command's process 1.
enter() {
    local root=$1 device path environment=()
    shift
    mapfile -d '' -t environment < <(environment "$root")
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount -t tmpfs -o mode=755 devices "$root/dev"
    mkdir -p "$root"/dev/{net,pts,shm}
    mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s fd/0 "$root/dev/stdin"
    ln -s fd/1 "$root/dev/stdout"
    ln -s fd/2 "$root/dev/stderr"
    for device in null zero full random urandom tty net/tun kvm; do
        if [[ -e /dev/$device ]]; then
            touch "$root/dev/$device"
            mount --bind "/dev/$device" "$root/dev/$device"
        fi
    done
    while IFS= read -r path; do
        if [[ -e $path && $path != /etc/ssl/* ]]; then
            if [[ -d $path ]]; then mkdir -p "$root$path"; else install -D /dev/null "$root$path"; fi
            mount --bind -o ro "$path" "$root$path"
        fi
    done < <(pip_paths)
    # Not chroot: a process whose root is not its namespace's may make no user namespace.
    cd "$root"
    mkdir -p mnt
    pivot_root . mnt
    cd "$project"
    umount --lazy /mnt
    # A shell stays as process 1 and takes in orphans.
    # shellcheck disable=SC2016
    exec env --ignore-environment "${environment[@]}" bash -c '"$@"; exit $?' bare "$@"
}

run() {
    local release=$1 base=$cache/$1 left
    shift
    mkdir -p "$cache"
    if [[ ! -d $base ]]; then
        echo "Making a fresh root of Debian $release"
        make_base "$release" "$base"
    fi
    for left in "$cache"/run-*; do # of a run that was killed
        if [[ -d $left && ! -d /proc/${left##*-} ]]; then rm -rf --one-file-system "$left" || true; fi
    done
    scratch=$cache/run-$$
    trap 'clean_up' EXIT
    trap 'exit 130' INT TERM HUP
    mkdir "$scratch"
    printf '[safe]\n\tdirectory = *\n' >"$scratch/gitconfig"
    cp -a --reflink=auto "$base" "$scratch/root"
    furnish "$scratch/root"
    # Each dies with the one before it, whatever happens to that: this script, unshare, process 1 and with it the rest.
    # In the background, so that a signal is acted upon at once; the command gets the usual answers to signals.
    setpriv --pdeathsig KILL env --default-signal unshare --mount --pid --fork --kill-child \
        "$BASH" scripts/bare.sh --inside "$scratch/root" "$@" <&0 &
    inside=$!
    wait "$inside"
}

clean_up() {
    local tries
    if [[ -n ${inside:-} ]] && kill -KILL "$inside" 2>/dev/null; then
        wait "$inside" 2>/dev/null || true
    fi
    # What was killed may still be on its way out.
    for tries in {1..50}; do
        rm -rf --one-file-system "$scratch" 2>/dev/null && return
        sleep 0.2
    done
    echo "warning: $scratch cannot be removed" >&2
}

case ${1:-} in
    --inside) enter "${@:2}" ;;
    "" | -*) die "usage: scripts/bare.sh RELEASE COMMAND…, for example: scripts/bare.sh trixie make test" ;;
    *)
        (($# > 1)) || die "scripts/bare.sh $1: a command is missing, for example: make test"
        [[ $(id -u) == 0 ]] || die "scripts/bare.sh: run it as root: it mounts file systems"
        run "$@"
        ;;
esac
