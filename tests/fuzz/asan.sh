#!/usr/bin/env bash
# Fuzzes the compiled packet path under AddressSanitizer and UBSan, in a scratch folder of its own:
#
#   tests/fuzz/asan.sh                              a minute of random and damaged frames
#   tests/fuzz/asan.sh --seconds 600 --seed 7       longer; the seed is printed and makes a run repeatable
#
# Ends with status 0 when nothing was found; with a sanitizer's report, or a traceback, otherwise.
# Needs gcc and its libasan (Debian: gcc). PYTHON=… chooses the interpreter, .venv's by default.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly python=$(realpath --no-symlinks "${PYTHON:-.venv/bin/python}")
readonly libasan=$(gcc -print-file-name=libasan.so)
if [[ ! -e $libasan ]]; then
    printf 'error: gcc has no libasan here; install it with the compiler (Debian: apt-get install gcc)\n' >&2
    exit 1
fi

readonly scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r src setup.py pyproject.toml README.md LICENSE "$scratch"
find "$scratch/src" -name '*.so' -delete

printf 'Compiling with AddressSanitizer and UBSan\n'
if ! (cd "$scratch" && PYCOLO_SANITIZE=1 "$python" setup.py -q build_ext --inplace >build.log 2>&1); then
    tail -n 20 "$scratch/build.log" >&2
    exit 1
fi

# Leaks are the interpreter's own; with its own allocator, blocks would share pages that look valid to ASan.
LD_PRELOAD=$libasan ASAN_OPTIONS=detect_leaks=0:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    PYTHONMALLOC=malloc \
    PYTHONPATH="$scratch/src:tests" PYTHONDONTWRITEBYTECODE=1 "$python" tests/fuzz/fuzz_core.py "$@"
