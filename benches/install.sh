#!/bin/sh
# Unpacks the peers that the benchmark measures under target/bench-peers/<name>/. Nothing is installed, and no service is
# started: HAProxy finds the libraries that it needs beside itself, and nginx and ProFTPD need none that a system that
# builds Portcullis lacks.
#
# Prints one line per peer that it puts in place; says nothing when all are there.
# Exit codes: 0 everything is there; 1 something is missing, and what.
set -eu

repository=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
peers=$repository/target/bench-peers

fail() {
    echo "benches/install.sh: $*" >&2
    exit 1
}

# unpack NAME PROGRAM PACKAGE... puts the packages' files under $peers/NAME, whole or not at all.
unpack() {
    name=$1 program=$2
    shift 2
    if [ ! -e "$peers/$name" ]; then
        scratch=$(mktemp -d "$peers/.$name.XXXXXX")
        # The sandbox user of apt can't write to a private directory.
        (cd "$scratch" && apt-get -qq -o APT::Sandbox::User=root download "$@") ||
            fail "can't download: $* (if there are no package lists, as root: apt-get update)"
        for archive in "$scratch"/*.deb; do
            dpkg-deb -x "$archive" "$scratch/files"
            dpkg-deb -W --showformat='${Package} ${Version}\n' "$archive" >>"$scratch/files/packages"
        done
        mv "$scratch/files" "$peers/$name"
        rm -rf "$scratch"
        echo "unpacked: $* -> $peers/$name"
    fi
    library_path=$peers/$name/usr/lib/$(gcc -print-multiarch)
    ! LD_LIBRARY_PATH=$library_path ldd "$peers/$name/$program" | grep 'not found' >&2 ||
        fail "$peers/$name/$program lacks these libraries; install the packages that have them"
}

command -v apt-get >/dev/null || fail "needs a Debian system (it was written for Debian 12)"
command -v taskset >/dev/null || fail "needs taskset, of the package util-linux"
mkdir -p "$peers"

unpack nginx usr/lib/nginx/modules/ngx_stream_module.so nginx libnginx-mod-stream
unpack haproxy usr/sbin/haproxy haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1
unpack proftpd usr/lib/proftpd/mod_proxy.so proftpd-core proftpd-mod-crypto proftpd-mod-proxy
