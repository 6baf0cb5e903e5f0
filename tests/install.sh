#!/bin/sh
# Puts in place what the whole-program tests need: FTP clients from the distribution's packages, and three real FTP
# servers unpacked (never installed, never started) under target/test-servers/<name>/.
#
# The servers are unpacked because vsftpd, proftpd-core and pure-ftpd conflict with each other, and because nobody wants
# three FTP daemons on the machine on which they write code. Only shared libraries that they lack are installed.
#
# Prints one line per thing it puts in place; says nothing, in well under a second, when all is there.
# Exit codes: 0 everything is there; 1 something is missing, and what.
set -eu

repository=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
servers=${PORTCULLIS_TEST_SERVERS:-$repository/target/test-servers}

fail() {
    echo "tests/install.sh: $*" >&2
    exit 1
}

# Runs a command as root, by sudo where needed; fails without asking for a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# The package lists may be empty: container images ship without them.
need_package_lists() {
    apt-cache show --no-all-versions "$1" >/dev/null 2>&1 && return
    as_root apt-get -qq update >/dev/null || fail "no package lists: as root, run: apt-get update"
    echo "package lists: updated"
}

apt_install() {
    need_package_lists "$1"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 install "$@" >"$servers/.apt.log" 2>&1 ||
        fail "missing: $*. As root, run: apt-get install $* (details, if any: $servers/.apt.log)"
    echo "installed: $*"
}

# need_programs PROGRAM:PACKAGE... installs the packages of those programs that are not on the path, all at once.
need_programs() {
    missing=
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
    # shellcheck disable=SC2086 # one word per package
    [ -z "$missing" ] || apt_install $missing
}

# unpack NAME FILE PACKAGE... puts the packages' files under $servers/NAME, whole or not at all.
unpack() {
    name=$1 file=$2
    shift 2
    [ -e "$servers/$name/$file" ] && return
    need_package_lists "$1"
    scratch=$(mktemp -d "$servers/.$name.XXXXXX")
    # The sandbox user of apt can't write to a private directory.
    (cd "$scratch" && apt-get -qq -o APT::Sandbox::User=root download "$@") ||
        fail "can't download: $*"
    mkdir "$scratch/files"
    for archive in "$scratch"/*.deb; do
        dpkg-deb -x "$archive" "$scratch/files"
        dpkg-deb -f "$archive" Depends >>"$scratch/files/depends"
    done
    rm -rf "${servers:?}/$name"
    mv "$scratch/files" "$servers/$name"
    rm -rf "$scratch"
    echo "unpacked: $* -> $servers/$name"
}

# need_libraries NAME FILE... installs the libraries among the packages' dependencies, if a file can't be loaded.
need_libraries() {
    directory=$servers/$1
    shift
    (cd "$directory" && lacks_library "$@") || return 0
    packages=
    for package in $(tr ',' '\n' <"$directory/depends" | sed 's/^ *//; s/[ (|].*//' | grep -E '^z?lib' | sort -u); do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' ||
            packages="$packages $package"
    done
    # shellcheck disable=SC2086 # one word per package
    [ -z "$packages" ] || apt_install $packages
    ! (cd "$directory" && lacks_library "$@") || fail "$directory: $* still lack shared libraries, see ldd"
}

lacks_library() {
    ldd "$@" | grep -q 'not found'
}

command -v apt-get >/dev/null || fail "needs a Debian system (it was written for Debian 12)"
mkdir -p "$servers"

# Two runs at once, say from two checkouts' test runs, wait for each other.
exec 9>"$servers/.lock"
flock 9

need_programs curl:curl lftp:lftp python3:python3 openssl:openssl systemd-analyze:systemd

unpack vsftpd usr/sbin/vsftpd vsftpd
need_libraries vsftpd usr/sbin/vsftpd

unpack proftpd usr/lib/proftpd/mod_tls.so proftpd-core proftpd-mod-crypto
need_libraries proftpd usr/sbin/proftpd usr/lib/proftpd/mod_tls.so

unpack pure-ftpd usr/sbin/pure-ftpd pure-ftpd pure-ftpd-common
need_libraries pure-ftpd usr/sbin/pure-ftpd usr/bin/pure-pw

# Of Prometheus only the checking tool is wanted; installed as a package it would start a server.
command -v promtool >/dev/null || unpack prometheus usr/bin/promtool prometheus

# The load balancer in front of it all.
unpack haproxy usr/sbin/haproxy haproxy
need_libraries haproxy usr/sbin/haproxy
