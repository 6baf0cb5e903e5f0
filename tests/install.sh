#!/bin/sh
# Puts in place what the whole-program tests need: FTP clients from the distribution's packages, and real FTP servers
# unpacked (never installed, never started) under target/test-servers/<name>/. What the distribution doesn't have, or
# only in an old version, comes from the registries of Python, Node.js and Rust, into the same place.
#
# The servers are unpacked because vsftpd, proftpd-core and pure-ftpd conflict with each other, and because nobody wants
# a handful of FTP daemons on the machine on which they write code. Only shared libraries that they lack are installed.
#
# Prints a line before and after each thing that it puts in place; says nothing, in well under a second, when all is there.
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
    echo "installing: $*"
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
    echo "unpacking: $*"
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

# need_python NAME REQUIREMENT... makes a virtual environment of its own with these.
need_python() {
    name=$1
    shift
    wanted=$(echo "$@")
    [ "$(cat "$servers/$name/.holds" 2>/dev/null)" = "$wanted" ] && return
    rm -rf "${servers:?}/$name"
    # Debian has the module apart from Python.
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    echo "installing: $wanted"
    python3 -m venv "$servers/$name" || fail "no virtual environment for $name"
    "$servers/$name/bin/pip" install -q --disable-pip-version-check "$@" >"$servers/.pip.log" 2>&1 ||
        fail "pip can't install $wanted (details: $servers/.pip.log)"
    echo "$wanted" >"$servers/$name/.holds"
    echo "installed: $wanted -> $servers/$name"
}

# need_node NAME PACKAGE@VERSION installs one package of Node.js, and runs nothing of it.
need_node() {
    [ "$(cat "$servers/$1/.holds" 2>/dev/null)" = "$2" ] && return
    rm -rf "${servers:?}/$1"
    mkdir "$servers/$1"
    echo "installing: $2"
    npm install --silent --no-package-lock --no-save --no-audit --no-fund --ignore-scripts \
        --prefix "$servers/$1" "$2" >"$servers/.npm.log" 2>&1 ||
        fail "npm can't install $2 (details: $servers/.npm.log)"
    echo "$2" >"$servers/$1/.holds"
    echo "installed: $2 -> $servers/$1"
}

# unpack_sources NAME FILE PACKAGE PATH... puts these paths of a package's sources under $servers/NAME. The system need not
# list sources: its own list of packages is read as one of sources.
unpack_sources() {
    name=$1 file=$2 package=$3
    shift 3
    [ -e "$servers/$name/$file" ] && return
    need_programs bzip2:bzip2
    echo "unpacking: sources of $package"
    scratch=$(mktemp -d "$servers/.$name.XXXXXX")
    mkdir -p "$scratch/parts" "$scratch/lists/partial" "$scratch/files"
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        # Those of other distributors have no part in this.
        [ -f "$list" ] && grep -q debian "$list" || continue
        sed 's/^Types:.*/Types: deb-src/; s/^deb /deb-src /' "$list" >"$scratch/parts/$(basename "$list")"
    done
    (
        cd "$scratch"
        options="-qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$scratch/parts
            -o Dir::State::lists=$scratch/lists -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
            -o APT::Sandbox::User=root"
        # shellcheck disable=SC2086 # one word per option
        apt-get $options update && apt-get $options --download-only source "$package"
    ) >"$servers/.sources.log" 2>&1 || fail "can't get the sources of $package (details: $servers/.sources.log)"
    for path in "$@"; do
        tar -xjf "$scratch"/*.orig.tar.bz2 -C "$scratch/files" --strip-components=1 --wildcards "*/$path"
    done
    rm -rf "${servers:?}/$name"
    mv "$scratch/files" "$servers/$name"
    rm -rf "$scratch"
    echo "unpacked: sources of $package -> $servers/$name"
}

# Compiles the driver of FileZilla's engine against the headers of its sources and the library of its package.
need_filezilla_driver() {
    source=$repository/tests/matrix/clients/filezilla.cpp
    driver=$servers/filezilla/driver
    [ -e "$driver" ] && [ ! "$source" -nt "$driver" ] && return
    need_programs g++:g++
    echo "compiling: $driver"
    usr=$servers/filezilla/usr
    library=$(dirname "$usr"/lib/*/libfzclient-private.so)
    g++ -std=c++17 -DFZC_USING_DLL=1 -DFZ_USING_DLL=1 -I"$servers/filezilla-sources/src/include" -I"$usr/include" \
        "$source" -o "$driver" -L"$library" -lfzclient-private -lfilezilla -l:libpugixml.so.1 -pthread \
        -Wl,-rpath,"$library" >"$servers/.g++.log" 2>&1 ||
        fail "can't compile $source (details: $servers/.g++.log)"
    echo "compiled: $driver"
}

# Compiles the driver of Commons Net by a compiler that the runtime environment of Java is enough for: the development kit
# would be twice the size.
need_commons_net_driver() {
    source=$repository/tests/matrix/clients/CommonsNet.java
    directory=$servers/commons-net
    [ -e "$directory/driver/CommonsNet.class" ] && [ ! "$source" -nt "$directory/driver/CommonsNet.class" ] && return
    echo "compiling: $directory/driver"
    java -cp "$directory/usr/share/java/eclipse-jdt-core.jar" org.eclipse.jdt.internal.compiler.batch.Main \
        -11 -proc:none -cp "$directory/usr/share/java/commons-net.jar" -d "$directory/driver" "$source" \
        >"$servers/.java.log" 2>&1 || fail "can't compile $source (details: $servers/.java.log)"
    echo "compiled: $directory/driver"
}

need_mono_driver() {
    source=$repository/tests/matrix/clients/FtpWebRequest.cs
    driver=$servers/mono/FtpWebRequest.exe
    [ -e "$driver" ] && [ ! "$source" -nt "$driver" ] && return
    echo "compiling: $driver"
    mkdir -p "$servers/mono"
    mcs -out:"$driver" "$source" >"$servers/.mcs.log" 2>&1 || fail "can't compile $source (details: $servers/.mcs.log)"
    echo "compiled: $driver"
}

# need_built PACKAGE DIRECTORY FILE compiles a package of this repository's, unless FILE is newer than its source.
need_built() {
    package=$1 source=$repository/$2 program=$servers/$3
    [ -e "$program" ] && [ ! "$source/main.rs" -nt "$program" ] && [ ! "$source/Cargo.toml" -nt "$program" ] && return
    echo "compiling: $program"
    (cd "$repository" && cargo build --locked --quiet --package "$package") || fail "can't compile $source"
    mkdir -p "$(dirname "$program")"
    cp "${CARGO_TARGET_DIR:-$repository/target}/debug/$package" "$program"
    echo "compiled: $program"
}

lacks_library() {
    ldd "$@" | grep -q 'not found'
}

command -v apt-get >/dev/null || fail "needs a Debian system (it was written for Debian 12)"
mkdir -p "$servers"

# Two runs at once, say from two checkouts' test runs, wait for each other.
exec 9>"$servers/.lock"
flock 9

need_programs curl:curl lftp:lftp python3:python3 openssl:openssl systemd-analyze:systemd strace:strace valgrind:valgrind

unpack vsftpd usr/sbin/vsftpd vsftpd
need_libraries vsftpd usr/sbin/vsftpd

unpack proftpd usr/lib/proftpd/mod_tls.so proftpd-core proftpd-mod-crypto
need_libraries proftpd usr/sbin/proftpd usr/lib/proftpd/mod_tls.so

unpack pure-ftpd usr/sbin/pure-ftpd pure-ftpd pure-ftpd-common
need_libraries pure-ftpd usr/sbin/pure-ftpd usr/bin/pure-pw

# Of Prometheus only the checking tool is wanted; installed as a package it would start a server.
command -v promtool >/dev/null || unpack prometheus usr/bin/promtool prometheus

# Reads the log as its filter says; installed as a package it would start a daemon.
unpack fail2ban usr/bin/fail2ban-regex fail2ban

# The load balancer in front of it all.
unpack haproxy usr/sbin/haproxy haproxy
need_libraries haproxy usr/sbin/haproxy

# The name server that tells of backends.
unpack dnsmasq usr/sbin/dnsmasq dnsmasq-base
need_libraries dnsmasq usr/sbin/dnsmasq

# The authority that certificates are ordered from, with the name server that it asks.
unpack pebble usr/bin/pebble pebble

# The browser that looks at the status page: the one without windows, which needs a third of the libraries.
unpack chromium usr/lib/chromium/chromium-headless-shell chromium-headless-shell chromium-common
need_libraries chromium usr/lib/chromium/chromium-headless-shell

# The rest is for tests/matrix.
need_programs ncftpput:ncftp tnftp:tnftp wget:wget rclone:rclone ruby:ruby node:nodejs npm:npm php:php-cli perl:perl \
    java:openjdk-17-jre-headless mono:mono-runtime mcs:mono-mcs
# A module, which no program shows.
perl -MIO::Socket::SSL -e 1 2>/dev/null || apt_install libio-socket-ssl-perl

# With the library that answers for the system's user database.
unpack inetutils-ftpd usr/sbin/ftpd inetutils-ftpd libnss-wrapper
need_libraries inetutils-ftpd usr/sbin/ftpd

need_python pyftpdlib pyftpdlib==2.2.0 pyopenssl==26.4.0

need_python aioftp aioftp==0.28.3

# With a libcurl of its own.
need_python pycurl pycurl==7.49.0

unpack commons-net usr/share/java/commons-net.jar libcommons-net-java libeclipse-jdt-core-java
need_commons_net_driver

need_mono_driver

need_built portcullis-suppaftp tests/matrix/clients/suppaftp suppaftp/driver
need_built portcullis-libunftp tests/servers/libunftp libunftp/server

need_node basic-ftp basic-ftp@6.2.6

# Of FileZilla only the engine is wanted, which needs less than the window; lftp and wget have brought the libraries.
unpack filezilla usr/include/libfilezilla/libfilezilla.hpp filezilla libfilezilla34 libfilezilla-dev libpugixml1v5
unpack_sources filezilla-sources src/include/FileZillaEngine.h filezilla src/include src/pugixml
need_filezilla_driver
