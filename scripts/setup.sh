#!/usr/bin/env bash
# Sets the project up in .venv. Each step leaves a stamp there (.venv/.environment …), by which `make setup` calls it
# only when what it depends on has changed:
#
#   scripts/setup.sh environment   the virtual environment with the pinned dependencies
#   scripts/setup.sh package       pycolo and its laboratory, editable: the packet path compiled in place, and the
#                                  command `colo`
#
# Running needs only these two. For work on pycolo, tools in the same environment:
#
#   scripts/setup.sh dev           lint, types, tests and benchmarks (requirements-dev.lock)
#   scripts/setup.sh docs          the documentation (requirements-docs.lock)
#   scripts/setup.sh dist          tools for publishing (requirements-dist.lock)
#   scripts/setup.sh programs      system programs that tests start: installed as root on Debian, otherwise nothing.
#                                  No stamp: they may be removed again, and checking is cheap
#   scripts/setup.sh counting      likewise valgrind, for `make bench-instructions`
#
# PYTHON=/path/to/python3 chooses the interpreter. As root on Debian, missing system packages are installed; otherwise
# they are named. What pip and the compiler say goes to build/setup.log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly venv=.venv
readonly log=build/setup.log # not in .venv, which does not exist yet when the first line is written
readonly said=build/last-command.log # of these lines, the last command's
readonly oldest=3.11

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Runs a command with its output in the log; if it fails, shows the end of its output.
quietly() {
    local failed=0
    "$@" >"$said" 2>&1 || failed=1
    cat "$said" >>"$log"
    if ((failed)); then
        # A compiler's own lines come first: its warnings can fill the last fifteen.
        grep -E '(:[0-9]+: (fatal )?error|internal compiler error|Killed)' "$said" | sed -n 1,5p >&2 || true
        tail -n 15 "$said" >&2
    fi
    return "$failed"
}

is_new_enough() {
    [[ $("$1" -c "import sys; print(sys.version_info >= (${oldest/./, }))" 2>/dev/null) == True ]]
}
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
has_headers() {
    "$1" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}
has_compiler() {
    local compiler
    compiler=$("$1" -c 'import sysconfig; print((sysconfig.get_config_var("CC") or "cc").split()[0])')
    command -v "${CC:-$compiler}" >/dev/null
}

# Sets `python` to the interpreter to use: $PYTHON, or the first on PATH that is new enough.
find_python() {
    if [[ -n ${PYTHON:-} ]]; then
        command -v "$PYTHON" >/dev/null || die "PYTHON=$PYTHON: no such command"
        is_new_enough "$PYTHON" || die "PYTHON=$PYTHON is no Python $oldest or newer"
        python=$PYTHON
        return
    fi
    for python in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if command -v "$python" >/dev/null && is_new_enough "$python"; then
            return
        fi
    done
    return 1
}

may_install_packages() { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

install_packages() {
    say "Installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update || warn "apt-get update failed; trying with the lists that are there"
    quietly apt-get install --yes --no-install-recommends "$@" ||
        warn "apt-get could not install $* (full output: $log)"
}

# Programs that tests start, and their Debian packages.
readonly test_programs=(
    qemu-system-x86_64:qemu-system-x86
    qemu-img:qemu-utils
    busybox:busybox-static
    etcd:etcd-server
    ip:iproute2
    nginx:nginx-light
    curl:curl
    gcc:gcc
)

# Not a program: the tests hold their stand-in against it.
readonly libvirt_binding=/usr/lib/python3/dist-packages/libvirt.py

readonly counting_programs=(
    valgrind:valgrind
    gcc:gcc
)

install_programs() {
    local pair packages=() PATH=$PATH:/usr/sbin:/sbin
    for pair; do
        command -v "${pair%%:*}" >/dev/null || [[ -e ${pair%%:*} ]] || packages+=("${pair#*:}")
    done
    if ((${#packages[@]})) && may_install_packages; then
        # Tests start programs of their own: the packages' services are not wanted. Without systemd
        # RUNLEVEL keeps invoke-rc.d from starting them; systemd would start them, and is told not to.
        RUNLEVEL=1 install_packages "${packages[@]}"
        if [[ -d /run/systemd/system ]]; then
            [[ " ${packages[*]} " != *" etcd-server "* ]] || quietly systemctl disable --now etcd.service || true
            [[ " ${packages[*]} " != *" nginx-light "* ]] || quietly systemctl disable --now nginx.service || true
        fi
    fi
}

# Debian splits Python (venv and headers are packages of their own), and a bare machine has no compiler.
install_missing_packages() {
    local packages=()
    if ! find_python; then
        packages=(python3 python3-venv python3-dev gcc libc6-dev)
    else
        has_venv "$python" || packages+=(python3-venv)
        has_headers "$python" || packages+=(python3-dev)
        has_compiler "$python" || packages+=(gcc libc6-dev)
    fi
    if ((${#packages[@]})) && may_install_packages; then
        install_packages "${packages[@]}"
    fi
}

make_environment() {
    local python
    install_missing_packages
    find_python ||
        die "no Python $oldest or newer on PATH: apt-get install python3 python3-venv python3-dev, or make PYTHON=…"
    if ! { [[ -x $venv/bin/python ]] && is_new_enough "$venv/bin/python" && [[ -x $venv/bin/pip ]]; }; then
        has_venv "$python" ||
            die "$(command -v "$python") cannot make virtual environments: as root, apt-get install python3-venv python3-dev"
        say "Making $venv with $("$python" -V)"
        quietly "$python" -m venv --clear "$venv" || die "$python could not make $venv"
    fi
    install_pins "the pinned dependencies" requirements.lock
    touch "$venv/.environment"
}

install_pins() {
    say "Installing $1 ($2)"
    quietly "$venv/bin/pip" install --disable-pip-version-check --requirement "$2" ||
        die "pip could not install $2 (full output: $log)"
}

# Of a dependency group in pyproject.toml. The stamp has its name.
install_tools() {
    install_pins "the tools for $2" "requirements-$1.lock"
    touch "$venv/.$1"
}

install_package() {
    local python=$venv/bin/python
    if ! { has_compiler "$python" && has_headers "$python"; }; then
        die "no C compiler or no Python.h here, which the packet path needs:" \
            "as root, apt-get install gcc libc6-dev python3-dev"
    fi
    say "Compiling the packet path"
    # An extension module shadows a source of the same name: remove those of earlier checkouts.
    find src -name '*.so' -delete
    quietly "$venv/bin/pip" install --disable-pip-version-check --no-build-isolation --no-deps \
        --editable . --editable lab ||
        die "the package could not be built (full output: $log)"
    touch "$venv/.package"
    say "Ready: $venv/bin/colo"
}

mkdir -p build
case ${1:-} in
    environment) make_environment ;;
    package) install_package ;;
    dev) install_tools dev "lint, types and tests" ;;
    docs) install_tools docs "the documentation" ;;
    dist) install_tools dist "what is published" ;;
    programs) install_programs "${test_programs[@]}" "$libvirt_binding:python3-libvirt" ;;
    counting) install_programs "${counting_programs[@]}" ;;
    *) die "usage: scripts/setup.sh environment|package|dev|docs|dist|programs|counting" ;;
esac
