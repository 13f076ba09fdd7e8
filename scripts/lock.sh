#!/usr/bin/env bash
# Writes the pins: the newest releases that pyproject.toml and lab/pyproject.toml allow, all of them resolved at once, so
# that what two files pin they pin alike. They suit the oldest Python that a supported Debian has; run it with that series.
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
readonly python=3.11.2 # Debian 12's: some releases need a later one of the same series
resolve() {
    "${pip[@]}" install --dry-run --ignore-installed --python-version "$python" --only-binary :all: \
        --target "$scratch/none" --report "$scratch/report" "$@"
}

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
resolve --requirement "$scratch/all"
"$scratch/venv/bin/python" - "$scratch/report" >"$scratch/pins" <<'PYTHON'
import json
import sys

with open(sys.argv[1]) as file:
    found = [package["metadata"] for package in json.load(file)["install"]]
for metadata in sorted(found, key=lambda metadata: metadata["name"].lower()):
    print(f"{metadata['name']}=={metadata['version']}")
PYTHON

for group in "$scratch"/requirements*; do
    lock=$(basename "$group").lock
    # What of these pins the group needs: pip is asked what it would install, were nothing there.
    echo '{"install": []}' >"$scratch/report"
    if [[ -s $group ]]; then
        resolve --constraint "$scratch/pins" --requirement "$group"
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
