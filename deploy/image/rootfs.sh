#!/bin/sh
# Puts together the image's file system: the program, the libraries that it is linked with, the certificates of authorities,
# and nothing that could run besides. Reads all of it from the machine that has built the program, which is a Debian, so that
# program and libraries fit together.
#
#     deploy/image/rootfs.sh BINARY DIRECTORY
#
# DIRECTORY is made anew.
set -eu

repository=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
binary=$1 to=$2

rm -rf "$to"
mkdir -p "$to/etc/ssl/certs" "$to/etc/portcullis" "$to/usr/local/bin" "$to/usr/share/doc/portcullis/examples" \
    "$to/usr/share/portcullis" "$to/var/lib/dpkg/status.d"

strip -o "$to/usr/local/bin/portcullis" "$binary"
chmod 755 "$to/usr/local/bin/portcullis"
cp "$repository/LICENSE-MIT" "$repository/LICENSE-APACHE" "$to/usr/share/doc/portcullis/"
cp "$repository/config/minimal.yaml" "$to/usr/share/doc/portcullis/examples/"
cp "$repository/config/schema.json" "$to/usr/share/portcullis/"

# Lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the loader's path alone.
for library in $(ldd "$binary" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p; s/^\t\(\/[^ ]*\) .*/\1/p'); do
    mkdir -p "$to$(dirname "$library")"
    cp -L "$library" "$to$library"
done

cp -L /etc/ssl/certs/ca-certificates.crt "$to/etc/ssl/certs/"
# What programs that look for vulnerabilities in images read, as in those of distroless.
for package in libc6 libgcc-s1 ca-certificates; do
    dpkg-query --status "$package" >"$to/var/lib/dpkg/status.d/$package"
done
cp /etc/os-release "$to/etc/os-release"

echo 'portcullis:x:65532:65532:Portcullis:/nonexistent:/sbin/nologin' >"$to/etc/passwd"
echo 'portcullis:x:65532:' >"$to/etc/group"
# Names of hosts come from /etc/hosts, then from name servers; the C library has both built in.
echo 'hosts: files dns' >"$to/etc/nsswitch.conf"
