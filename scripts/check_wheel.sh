#!/usr/bin/env bash
# Installs a wheel into a fresh environment that sees neither this checkout nor a compiler, uses it, removes it again:
#
#   scripts/check_wheel.sh dist/pycolo-….whl
#   scripts/bare.sh trixie scripts/check_wheel.sh pycolo-….whl <dist/pycolo-….whl      where the file is not at hand
#
# PYTHON=… chooses the interpreter. Prints one line when all is well.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wheel=${1:?usage: scripts/check_wheel.sh WHEEL}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [[ -f $wheel ]]; then cp "$wheel" "$scratch"; else cat >"$scratch/$(basename "$wheel")"; fi
wheel=$scratch/$(basename "$wheel")

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
compared=$(bare python -I - <"$here/compare_in_memory.py") || die "does not compare"
quietly pip uninstall --yes pycolo
left=$(find "$scratch/venv" \( -iname '*pycolo*' -o -name colo \) -print)
[[ -z $left ]] || die "its removal leaves $left"
printf '%s: installed, used, removed; %s\n' "$(basename "$wheel")" "$compared"
