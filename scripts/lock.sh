#!/usr/bin/env bash
# Writes requirements.lock: the newest releases that pyproject.toml allows, resolved in a fresh environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${PYTHON:-python3}" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --upgrade pip
"$scratch/venv/bin/python" - pyproject.toml >"$scratch/requirements.in" <<'PYTHON'
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)
for group in (
    project["build-system"]["requires"],
    project["project"]["dependencies"],
    *project["project"]["optional-dependencies"].values(),
    *project["dependency-groups"].values(),
):
    print(*group, sep="\n")
PYTHON
"$scratch/venv/bin/pip" install --quiet --requirement "$scratch/requirements.in"
"$scratch/venv/bin/pip" freeze --all --exclude pip >requirements.lock
echo "requirements.lock: $(wc -l <requirements.lock) packages; run make test before you keep it"
