#!/usr/bin/env bash
# Writes the pins: the newest releases that pyproject.toml and lab/pyproject.toml allow, all of them resolved at once in
# a fresh environment, so that what two files pin they pin alike.
#
#   requirements.lock         what pycolo needs to be built and run, with the laboratory
#   requirements-GROUP.lock   what each dependency group of pyproject.toml adds (dev: tests, lint and types), complete
#                             in itself
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${PYTHON:-python3}" -m venv "$scratch/venv"
readonly pip=("$scratch/venv/bin/pip" --disable-pip-version-check --quiet --quiet) # errors only
"${pip[@]}" install --upgrade pip

# One file of requirements for each file of pins, named alike.
"$scratch/venv/bin/python" - "$scratch" <<'PYTHON'
import sys
import tomllib
from pathlib import Path

project, lab = (tomllib.loads(Path(name).read_text()) for name in ("pyproject.toml", "lab/pyproject.toml"))
groups = {f"requirements-{name}": group for name, group in project["dependency-groups"].items()}
groups["requirements"] = [
    *project["build-system"]["requires"],
    *project["project"]["dependencies"],
    *(requirement for requirement in lab["project"]["dependencies"] if not requirement.startswith("pycolo==")),
]
for name, group in groups.items():
    Path(sys.argv[1], name).write_text("".join(f"{requirement}\n" for requirement in group))
PYTHON

cat "$scratch"/requirements* >"$scratch/all"
"${pip[@]}" install --requirement "$scratch/all"
"${pip[@]}" freeze --all --exclude pip >"$scratch/pins"

for group in "$scratch"/requirements*; do
    lock=$(basename "$group").lock
    # What of these pins the group needs: pip is asked what it would install, were nothing there.
    echo '{"install": []}' >"$scratch/report"
    if [[ -s $group ]]; then
        "${pip[@]}" install --dry-run --ignore-installed --report "$scratch/report" \
            --constraint "$scratch/pins" --requirement "$group"
    fi
    "$scratch/venv/bin/python" - "$scratch/report" "$scratch/pins" >"$lock" <<'PYTHON'
import json
import re
import sys


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


with open(sys.argv[1]) as file:
    needed = {canonical(package["metadata"]["name"]) for package in json.load(file)["install"]}
print("# written by make lock")
with open(sys.argv[2]) as file:
    print("".join(line for line in file if canonical(line.partition("==")[0]) in needed), end="")
PYTHON
    echo "$lock: $(grep -c == "$lock") packages"
done
echo "run make test before you keep them"
