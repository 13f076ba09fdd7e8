#!/bin/sh
# Tests that this release and the last one work together: builds the newest tag into an environment of its own.
# REF=... builds another commit. Needs no network but PyPI, and a C compiler.
set -eu
cd "$(dirname "$0")/.."
ref=${REF:-$(git describe --tags --abbrev=0 2>/dev/null || true)}
if [ -z "$ref" ]; then
    echo "there is no release yet: no tag (REF=COMMIT builds a commit)" >&2
    exit 0
fi
commit=$(git rev-parse "$ref^{commit}")
place=$PWD/build/last-release/$commit
if ! [ -x "$place/venv/bin/colo" ]; then
    rm -rf "$place"
    mkdir -p "$place/source"
    echo "building $ref ($commit)"
    git archive "$commit" | tar -x -C "$place/source"
    .venv/bin/python -m venv "$place/venv"
    "$place/venv/bin/pip" install --quiet "$place/source" > "$place/log" 2>&1 || { cat "$place/log" >&2; exit 1; }
fi
COLO_LAST_RELEASE=$place/venv/bin/python exec .venv/bin/pytest -q tests/e2e/test_versions.py -k "last or upgraded"
