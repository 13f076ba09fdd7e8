#!/usr/bin/env bash
# Builds the Debian packages for this machine's release, pycolo and pycolo-lab, into dist/, and checks them: lintian, and
# their installation, use and removal in a bare root of the same release (scripts/bare.sh). As root, on Debian 12 or 13.
#
# Only the first step uses the network: the sources of what Debian has not go to vendor/, in the versions that
# requirements.lock pins. The packages are then built without one. All of it happens in build/deb.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly work=$PWD/build/deb
readonly log=$work/log
readonly libraries=(msgspec qemu.qmp) # in the package
readonly build_tools=(Cython setuptools) # for the build: pure Python, newer than Debian's
readonly system_python=/usr/bin/python3

say() { printf '%s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
quietly() {
    "$@" >>"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "$1 failed (full output: $log)"
    }
}

[[ $(id -u) == 0 ]] || die "make deb: run it as root: it installs what the build needs, and makes a bare root"
command -v apt-get >/dev/null || die "make deb: this is no Debian"
release=$(. /etc/os-release && printf %s "$VERSION_CODENAME")
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
rm -rf "$work"
mkdir -p "$work" dist

# ── what the build needs ────────────────────────────────────────────────────────────────────────────────────────────

tools=(dpkg-dev lintian python3-pip)
if ! dpkg-query --show "${tools[@]}" >/dev/null 2>&1 || ! dpkg-checkbuilddeps debian/control 2>/dev/null; then
    say "Installing what the build needs"
    quietly apt-get -q update
    DEBIAN_FRONTEND=noninteractive quietly apt-get -q install --yes --no-install-recommends "${tools[@]}"
    DEBIAN_FRONTEND=noninteractive quietly apt-get -q build-dep --yes --no-install-recommends "$PWD"
fi

# ── the source package ──────────────────────────────────────────────────────────────────────────────────────────────

pinned() { grep -i "^$1==" requirements.lock; }
fetch() { quietly env PIP_BREAK_SYSTEM_PACKAGES=1 "$system_python" -m pip --disable-pip-version-check download --no-deps "$@"; }

source=$work/pycolo-$version
mkdir -p "$source" "$work/vendor"
say "Fetching the sources of ${libraries[*]}, and the build tools ${build_tools[*]}"
for name in "${libraries[@]}" "${build_tools[@]}"; do
    to=$work/vendor/$name
    [[ " ${build_tools[*]} " != *" $name "* ]] || to=$work/vendor/build
    mkdir -p "$to"
    if [[ $name == msgspec ]]; then # the one in C
        fetch --no-binary :all: --dest "$work/fetched/$name" "$(pinned "$name")"
        tar -xzf "$work/fetched/$name"/*.tar.gz -C "$to" --strip-components 1
    else # a wheel of pure Python is its source
        fetch --only-binary :all: --platform any --dest "$work/fetched/$name" "$(pinned "$name")"
        quietly "$system_python" -m zipfile -e "$work/fetched/$name"/*.whl "$to"
    fi
done
find "$work/vendor/build" -name '*.exe' -delete # setuptools' for Windows

archive() { tar --sort=name --owner=0 --group=0 --numeric-owner -czf "$@"; }
scripts/sources.sh | tr '\n' '\0' | xargs -0 cp --parents --preserve=mode,timestamps -t "$source"
archive "$work/pycolo_$version.orig-vendor.tar.gz" -C "$work" vendor
archive "$work/pycolo_$version.orig.tar.gz" -C "$work" --exclude=debian "pycolo-$version"
mv "$work/vendor" "$source/vendor"

# ── the packages ────────────────────────────────────────────────────────────────────────────────────────────────────

say "Building the packages, without a network"
offline=()
if unshare --net true 2>/dev/null; then offline=(unshare --net); fi
(
    cd "$source"
    # The environment of a build is the system's own: no other Python, no settings of pip.
    quietly env --ignore-environment HOME=/nonexistent PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
        SOURCE_DATE_EPOCH="$(dpkg-parsechangelog --show-field Timestamp)" DEB_BUILD_OPTIONS="parallel=$(nproc)" \
        "${offline[@]}" dpkg-buildpackage --no-sign --no-check-builddeps
)
quietly lintian --fail-on error,warning "$work"/pycolo_*.changes
say "lintian: no error, no warning"
rm -f dist/pycolo{,-lab}_*.deb
cp "$work"/pycolo{,-lab}_*.deb dist
packages=(dist/pycolo_*.deb dist/pycolo-lab_*.deb)
for package in "${packages[@]}"; do
    say "$package: $(($(stat --format %s "$package") / 1000)) kB"
done
tar -cC dist "${packages[@]#dist/}" | scripts/bare.sh "$release" scripts/check_deb.sh "${packages[@]#dist/}"
