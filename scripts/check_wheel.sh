#!/usr/bin/env bash
# Installs pycolo's wheel into a fresh environment that sees neither this checkout nor a compiler, uses it, adds the
# laboratory's, uses that, and removes both again:
#
#   scripts/check_wheel.sh dist/pycolo-….whl dist/pycolo_lab-….whl
#   tar -cC dist A B | scripts/bare.sh trixie scripts/check_wheel.sh A B       where the files are not at hand
#
# PYTHON=… chooses the interpreter. Prints one line for each when all is well.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
(($# == 2)) || { echo "usage: scripts/check_wheel.sh PYCOLO_WHEEL PYCOLO_LAB_WHEEL" >&2 && exit 2; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [[ -f $1 && -f $2 ]]; then cp "$1" "$2" "$scratch"; else tar -xC "$scratch"; fi
wheel=$scratch/$(basename "$1")
lab=$scratch/$(basename "$2")

die() {
    printf 'error: %s: %s\n' "$(basename "$wheel")" "$*" >&2
    exit 1
}

python=${PYTHON:-python3}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        die "$python cannot make virtual environments here (Debian: apt-get install python3-venv)"
    fi
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends python3-venv >"$scratch/apt.log" ||
        die "python3-venv cannot be installed: $(tail -n 3 "$scratch/apt.log")"
fi
"$python" -m venv "$scratch/venv"

# Nothing of this environment but pip's way to its index; no compiler, nothing of the checkout, no other colo.
passed_on=(HOME="$scratch" PATH="$scratch/venv/bin" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1)
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY $(compgen -e | grep '^PIP_' || true); do
    if [[ -n ${!name:-} ]]; then passed_on+=("$name=${!name}"); fi
done
bare() { (cd / && env --ignore-environment "${passed_on[@]}" "$@"); }
# Says what a command said only when it fails.
quietly() { bare "$@" >"$scratch/said" 2>&1 || { tail -n 15 "$scratch/said" >&2 && die "$* failed"; }; }

quietly pip install --only-binary :all: "$wheel"
quietly pip check
tools=$(bare pip list --format freeze | grep -iE '^(pytest|hypothesis|mypy|ruff|scapy|twine|build|auditwheel)' || true)
[[ -z $tools ]] || die "pulls tools of the developers in: $tools"
quietly colo --help
grep -q 'Commands:' "$scratch/said" || die "colo --help names no commands"
quietly colo --version
quietly python -m pycolo.cli.manual "$scratch/man1"
[[ -s $scratch/man1/colo.1 ]] || die "makes no manual pages"
quietly python -I -c 'import asyncio; from pycolo.metrics.page import page; asyncio.run(page())'
compared=$(bare python -I - <"$here/compare_in_memory.py") || die "does not compare"
# A proxy listens, and a signal ends it.
(cd "$scratch" && exec env --ignore-environment "${passed_on[@]}" colo proxy \
    -chardev socket,id=p,path=p,server=on,wait=off -chardev socket,id=s,path=s,server=on,wait=off \
    -chardev socket,id=o,path=o,server=on,wait=off -object iothread,id=io \
    -object colo-compare,id=c,primary_in=p,secondary_in=s,outdev=o,iothread=io) >"$scratch/said" 2>&1 &
proxy=$!
for _ in {1..100}; do
    [[ -S $scratch/o ]] && break
    sleep 0.1
done
[[ -S $scratch/o ]] || { tail -n 5 "$scratch/said" >&2 && die "colo proxy does not listen"; }
kill "$proxy"
wait "$proxy" || die "colo proxy ends with $?"
# The laboratory is not there, and that is one line.
for command in demo lab; do
    ! bare colo "$command" --help >"$scratch/said" 2>&1 || die "colo $command works without pycolo-lab"
    [[ $(wc -l <"$scratch/said") == 1 ]] && grep -q 'pip install pycolo-lab' "$scratch/said" ||
        die "colo $command without pycolo-lab says: $(cat "$scratch/said")"
done
printf '%s: installed, used; %s\n' "$(basename "$wheel")" "$compared"

quietly pip install --only-binary :all: "$lab"
quietly pip check
quietly colo demo --help
quietly colo lab qemu --list
scenarios=$(wc -l <"$scratch/said")
quietly python -m pycolo.cli.manual "$scratch/man1"
[[ -s $scratch/man1/colo-demo.1 ]] || die "pycolo-lab has no manual page for colo demo"
quietly pip uninstall --yes pycolo pycolo-lab
left=$(find "$scratch/venv" \( -iname '*pycolo*' -o -name colo \) -print)
[[ -z $left ]] || die "its removal leaves $left"
printf '%s: installed, used, both removed; colo lab qemu --list: %s lines\n' "$(basename "$lab")" "$scenarios"
