#!/usr/bin/env bash
# Prints the paths of the source files, one a line: what git tracks or would track (with --tracked, the former only),
# or, in an unpacked source distribution, everything but what is made there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -e .git ]]; then
    which=(--cached)
    if [[ ${1:-} != --tracked ]]; then which+=(--others --exclude-standard); fi
    # Who owns the checkout does not matter for a list of names.
    git -c safe.directory="$PWD" -c core.quotePath=false ls-files "${which[@]}" | while IFS= read -r path; do
        if [[ -f $path ]]; then printf '%s\n' "$path"; fi # not when it was just removed
    done
else
    find . -mindepth 1 \
        \( -path ./.venv -o -path ./build -o -path ./dist -o -path ./site -o -name '*.egg-info' -o -name '__pycache__' \
        -o -name '.*_cache' -o -name .hypothesis \) -prune \
        -o -type f ! -name '*.so' ! -name '*.py[co]' ! -path ./PKG-INFO ! -path ./setup.cfg \
        ! -name 'colo-report*.html' -printf '%P\n' | sort
fi
