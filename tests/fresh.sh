#!/bin/sh
# Runs `make test` where a newcomer runs it: on a Debian 12 in which nothing is installed but what README.md asks for. Finds
# what a machine on which people work hides: a newer Node.js, a library that some other package has brought along.
#
# The system is made by debootstrap, and entered by chroot in mounts of its own, which end with it. Rust is this machine's, and
# so are the downloaded sources of crates, the name servers and the certificates that are trusted (there may be a proxy). The
# repository is a copy of this one with what isn't committed, without what was built.
#
#     tests/fresh.sh [DIRECTORY [TARGET]]    the system's place, target/fresh if there is none; what to run, test if there is none
#
# Needs root, debootstrap, some 4 GB, and half an hour.
# Exit codes: that of make; 1 if it can't begin, and why.
set -eu

repository=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
system=${1:-$repository/target/fresh}
target=${2:-test}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

fail() {
    echo "tests/fresh.sh: $*" >&2
    exit 1
}

[ "$(id -u)" -eq 0 ] || fail "needs root, for chroot"
for program in debootstrap unshare rustc; do
    command -v "$program" >/dev/null || fail "$program is missing"
done

if [ ! -e "$system/etc/fresh" ]; then
    echo "making a Debian 12 in $system"
    rm -rf "$system"
    mkdir -p "$system"
    # What README.md asks for, and how to reach the network.
    debootstrap --variant=minbase --include=ca-certificates,build-essential,curl bookworm "$system" "$mirror" \
        >"$system.log" 2>&1 || fail "debootstrap has failed, see $system.log"
    touch "$system/etc/fresh"
fi

rm -rf "$system/portcullis"
mkdir -p "$system/portcullis" "$system/rust" "$system/cargo/registry"
(cd "$repository" && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -p -t "$system/portcullis")
cp -L /etc/resolv.conf /etc/hosts "$system/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$system/etc/ssl/certs/"
mkdir -p "${CARGO_HOME:-$HOME/.cargo}/registry"

SYSTEM=$system TARGET=$target SYSROOT=$(rustc --print sysroot) REGISTRY=${CARGO_HOME:-$HOME/.cargo}/registry
export SYSTEM TARGET SYSROOT REGISTRY
exec unshare --mount --propagation private sh -euc '
    mount -t proc proc "$SYSTEM/proc"
    mount --rbind /dev "$SYSTEM/dev"
    mount --bind "$SYSROOT" "$SYSTEM/rust"
    mount --bind "$REGISTRY" "$SYSTEM/cargo/registry"
    certificates=/etc/ssl/certs/ca-certificates.crt
    exec env -i HOME=/root LANG=C.UTF-8 CARGO_HOME=/cargo PATH=/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        http_proxy="${http_proxy-}" https_proxy="${https_proxy-}" \
        PIP_CERT=$certificates NODE_EXTRA_CA_CERTS=$certificates npm_config_cafile=$certificates \
        chroot "$SYSTEM" make -C /portcullis "$TARGET"
'
