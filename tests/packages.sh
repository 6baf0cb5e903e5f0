#!/bin/sh
# Installs, upgrades, removes and purges the Debian package in a Debian 12 of its own, and looks at each step; has lintian judge
# it; looks into the RPM package; loads and runs the container image.
#
# The system is made by debootstrap, once, and entered by chroot. No systemd runs in it, as in images that are being built. What
# depends on a running one is tried with a `systemctl` that writes down what it is asked for.
#
#     tests/packages.sh DIRECTORY VERSION    DIRECTORY has what `make packages image` has made
#
# Needs root, debootstrap, and a minute (some more the first time).
# Exit codes: 0 all is well; 1 something isn't, or it can't begin, and why.
set -eu

repository=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
directory=$(CDPATH='' cd -- "$1" && pwd)
version=$2
base=$repository/target/packages-test/base
system=$repository/target/packages-test/system
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

fail() {
    echo "tests/packages.sh: $*" >&2
    exit 1
}

step() {
    echo "$*"
}

# need PROGRAM:PACKAGE... installs what is missing.
need() {
    missing=
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
    [ -n "$missing" ] || return 0
    step "installing:$missing"
    # shellcheck disable=SC2086 # one word per package
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $missing >/dev/null ||
        fail "missing:$missing. As root, run: apt-get install$missing"
}

inside_without_proc() {
    env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot "$system" "$@"
}

inside() {
    # shellcheck disable=SC2016 # the inner shell expands it
    unshare --mount --propagation private sh -euc 'mount -t proc proc "$0/proc"; exec "$@"' "$system" \
        env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot "$system" "$@"
}

there() {
    for file in "$@"; do
        [ -e "$system$file" ] || [ -L "$system$file" ] || fail "$file is missing"
    done
}

gone() {
    for file in "$@"; do
        [ ! -e "$system$file" ] && [ ! -L "$system$file" ] || fail "$file is still there"
    done
}

# owned FILE "MODE USER GROUP"
owned() {
    found=$(inside stat -c '%a %U %G' "$1")
    [ "$found" = "$2" ] || fail "$1 is $found, and not $2"
}

# says TEXT COMMAND...: runs it, and TEXT has to be in what it prints.
says() {
    wanted=$1
    shift
    printed=$("$@" 2>&1) || fail "$*: $printed"
    case $printed in
    *"$wanted"*) ;;
    *) fail "$* doesn't say \"$wanted\": $printed" ;;
    esac
}

[ "$(id -u)" -eq 0 ] || fail "needs root, for chroot"
need debootstrap:debootstrap lintian:lintian rpm:rpm rpm2cpio:rpm2cpio cpio:cpio openssl:openssl readelf:binutils
deb=$(echo "$directory"/portcullis_"$version"-1_*.deb)
rpm=$(echo "$directory"/portcullis-"$version"-1.*.rpm)
image=$directory/portcullis-$version-image.tar
for file in "$deb" "$rpm" "$image" "$directory/portcullis-$version.cdx.json"; do
    [ -f "$file" ] || fail "there is no $file: run make packages image"
done

if [ ! -e "$base/etc/made" ]; then
    step "making a Debian 12 in $base"
    rm -rf "$base"
    mkdir -p "$base"
    debootstrap --variant=minbase --include=systemd,logrotate,openssl bookworm "$base" "$mirror" >"$base.log" 2>&1 ||
        fail "debootstrap has failed, see $base.log"
    touch "$base/etc/made"
fi
rm -rf "$system"
cp -a "$base" "$system"
cp "$deb" "$system/portcullis.deb"
# The same files under a higher number.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
dpkg-deb -R "$deb" "$scratch/deb"
sed -i "s/^Version: .*/Version: $version-2/" "$scratch/deb/DEBIAN/control"
dpkg-deb --root-owner-group -b "$scratch/deb" "$system/portcullis-new.deb" >/dev/null

step "install into the barest of images"
inside_without_proc dpkg -i /portcullis.deb >/dev/null 2>&1 || fail "it can't be installed without /proc"
there /usr/bin/portcullis
inside_without_proc dpkg -P portcullis >/dev/null 2>&1 || fail "it can't be purged without /proc"
gone /usr/bin/portcullis

step "install"
says "not started, since it has no configuration yet" inside dpkg -i /portcullis.deb
there /usr/bin/portcullis /usr/lib/systemd/system/portcullis.service /usr/lib/systemd/system/portcullis.socket \
    /etc/logrotate.d/portcullis \
    /usr/share/man/man1/portcullis.1.gz /usr/share/man/man1/portcullis-check.1.gz \
    /usr/share/bash-completion/completions/portcullis /usr/share/zsh/vendor-completions/_portcullis \
    /usr/share/fish/vendor_completions.d/portcullis.fish /usr/share/doc/portcullis/copyright \
    /etc/systemd/system/multi-user.target.wants/portcullis.service
gone /etc/portcullis/portcullis.yaml /etc/systemd/system/sockets.target.wants/portcullis.socket
owned /etc/portcullis "750 root portcullis"
owned /etc/portcullis/tls "750 root portcullis"
owned /var/log/portcullis "750 portcullis portcullis"
says "portcullis $version" inside portcullis --version
says "/usr/sbin/nologin" inside getent passwd portcullis
# Complains of nothing; where it is verified nothing else has to be in order.
inside systemd-analyze verify --man=no /usr/lib/systemd/system/portcullis.service \
    /usr/lib/systemd/system/portcullis.socket 2>&1 | grep portcullis && fail "systemd doesn't understand the units"
named=$(sed -n '1s/.*\$schema=//p' "$system/usr/share/doc/portcullis/examples/minimal.yaml")
there "$named"

step "a first configuration, as the package says"
inside install -m 640 -g portcullis /usr/share/doc/portcullis/examples/minimal.yaml /etc/portcullis/portcullis.yaml
inside openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=ftp.example.com \
    -addext subjectAltName=DNS:ftp.example.com -keyout /etc/portcullis/tls/tls.key -out /etc/portcullis/tls/tls.crt \
    2>/dev/null
inside chgrp portcullis /etc/portcullis/tls/tls.key
inside chmod 640 /etc/portcullis/tls/tls.key
says "1 site" inside runuser -u portcullis -- portcullis check --config /etc/portcullis/portcullis.yaml

step "logs are rotated, and the service is told"
inside runuser -u portcullis -- sh -c 'echo line >/var/log/portcullis/transfers.json'
# Before systemd seems to run, there is nobody to tell.
inside logrotate --force /etc/logrotate.d/portcullis || fail "logrotate fails"
there /var/log/portcullis/transfers.json.1
owned /var/log/portcullis/transfers.json "640 portcullis portcullis"

# From here on it seems to. RPM's scripts have a path of their own, so the real one makes room.
cat >"$system/usr/bin/systemctl" <<'END'
#!/bin/sh
echo "$@" >>/asked
case "$*" in
*is-active*) [ -e /active ] ;;
*is-enabled*) echo enabled ;;
esac
END
chmod 755 "$system/usr/bin/systemctl"
mkdir -p "$system/run/systemd/system"
rm -f "$system/usr/sbin/policy-rc.d"

# asked TEXT; asked_not TEXT: whether systemctl was asked for this since the last `forget`.
asked() {
    grep -qw -e "$1" "$system/asked" || fail "systemctl wasn't asked to $1: $(cat "$system/asked")"
}
asked_not() {
    ! grep -qw -e "$1" "$system/asked" || fail "systemctl was asked to $1: $(cat "$system/asked")"
}
forget() {
    : >"$system/asked"
}

forget
touch "$system/active"
inside runuser -u portcullis -- sh -c 'echo line >/var/log/portcullis/xferlog'
inside logrotate --force /etc/logrotate.d/portcullis || fail "logrotate fails"
asked "kill --signal=USR1 --kill-who=main portcullis.service"

step "an upgrade restarts what is running, once the configuration has been checked"
forget
says "restarting" inside dpkg -i /portcullis-new.deb
asked "restart portcullis.service"
asked_not "stop"

step "an upgrade leaves it running where the configuration isn't good for the new version"
cp "$system/etc/portcullis/portcullis.yaml" "$scratch/good.yaml"
echo "colour: blue" >>"$system/etc/portcullis/portcullis.yaml"
forget
says "unknown key \`colour\`" inside dpkg -i /portcullis.deb /portcullis-new.deb
asked_not "restart"
asked_not "stop"
says "Version: $version-2" inside dpkg -s portcullis

step "an upgrade starts nothing that isn't running"
rm "$system/active"
forget
inside dpkg -i /portcullis-new.deb >/dev/null 2>&1 || fail "the upgrade fails"
asked_not "start"

step "remove"
touch "$system/active"
forget
inside dpkg -r portcullis >/dev/null 2>&1 || fail "it can't be removed"
asked "stop portcullis.service portcullis.socket"
gone /usr/bin/portcullis /usr/lib/systemd/system/portcullis.service /usr/lib/systemd/system/portcullis.socket \
    /usr/libexec/portcullis /usr/share/portcullis /usr/share/doc/portcullis
there /etc/portcullis/portcullis.yaml /etc/portcullis/tls/tls.key /var/log/portcullis/transfers.json.1

step "what is installed again waits to be started"
rm "$system/active"
forget
inside dpkg -i /portcullis.deb >/dev/null 2>&1 || fail "it can't be installed again"
asked_not "start"
asked_not "restart"

step "purge, with the socket unit enabled by the administrator"
mkdir -p "$system/etc/systemd/system/sockets.target.wants"
ln -s /lib/systemd/system/portcullis.socket "$system/etc/systemd/system/sockets.target.wants/portcullis.socket"
inside dpkg -P portcullis >/dev/null 2>&1 || fail "it can't be purged"
gone /etc/portcullis /var/log/portcullis /etc/logrotate.d/portcullis \
    /etc/systemd/system/multi-user.target.wants/portcullis.service \
    /etc/systemd/system/sockets.target.wants/portcullis.socket
says "/usr/sbin/nologin" inside getent passwd portcullis

step "a first installation starts with a configuration that is there"
mkdir "$system/etc/portcullis"
cp "$scratch/good.yaml" "$system/etc/portcullis/portcullis.yaml"
forget
inside dpkg -i /portcullis.deb >/dev/null 2>&1 || fail "it can't be installed where there is a configuration"
asked "start portcullis.service"
inside dpkg -P portcullis >/dev/null 2>&1 || fail "it can't be purged"

step "lintian"
lintian --allow-root --fail-on error,warning "$deb" || fail "lintian isn't content with $deb"

step "the RPM package"
# Where systems put completions of zsh differs, as do the texts that each wants.
list_of() {
    sed 's/vendor-completions/site-functions/' | grep -v -e '/$' -e /licenses/ -e /copyright -e changelog.Debian -e /lintian/ |
        sort
}
dpkg-deb -c "$deb" | awk '{print substr($6, 2)}' | list_of >"$scratch/deb.list"
rpm -qpl "$rpm" 2>/dev/null | list_of >"$scratch/rpm.list"
diff "$scratch/deb.list" "$scratch/rpm.list" || fail "the packages hold different files"
says "restart-checked systemctl restart" rpm -qp --scripts "$rpm"
says "libc.so.6" rpm -qp --requires "$rpm"
says "/etc/logrotate.d/portcullis" rpm -qpc "$rpm"
mkdir "$scratch/rpm"
(cd "$scratch/rpm" && rpm2cpio "$rpm" | cpio -idm --quiet)
says "portcullis $version" "$scratch/rpm/usr/bin/portcullis" --version
cmp "$scratch/rpm/usr/bin/portcullis" "$scratch/deb/usr/bin/portcullis" || fail "the packages hold different programs"
# In the same system: RPM's scripts need a shell and systemd's tools, as it has them.
rpm_inside() {
    unshare --mount --propagation private sh -euc 'mount -t proc proc "$0/proc"; exec rpm --root "$0" --force-debian --nodeps "$@"' \
        "$system" "$@" || fail "rpm $*"
}
inside userdel portcullis
forget
rpm_inside --install "$rpm"
there /usr/bin/portcullis /usr/share/zsh/site-functions/_portcullis
owned /etc/portcullis "750 root portcullis"
asked "preset portcullis.service"
asked_not "start"
cp "$scratch/good.yaml" "$system/etc/portcullis/portcullis.yaml"
touch "$system/active"
forget
# With what RPM passes at an upgrade.
inside sh -eu -s 2 <"$repository/deploy/packages/rpm/post_install.sh" 2>/dev/null || fail "the script of the RPM package fails"
asked_not "restart"
forget
rpm_inside --erase portcullis
asked "disable --now portcullis.service portcullis.socket"
gone /usr/bin/portcullis
there /etc/portcullis/portcullis.yaml

step "the list of dependencies"
says ".dep-v0" readelf --wide --section-headers "$scratch/deb/usr/bin/portcullis"
says '"name": "rustls"' cat "$directory/portcullis-$version.cdx.json"
says '"name": "portcullis"' cat "$directory/portcullis-$version.cdx.json"

step "the image"
mkdir "$scratch/image" "$scratch/layers"
tar -xf "$image" -C "$scratch/image"
for layer in "$scratch"/image/*.tar "$scratch"/image/*/layer.tar; do
    [ ! -f "$layer" ] || [ -L "$layer" ] || tar -xf "$layer" -C "$scratch/layers"
done
says '"Healthcheck":{"Test":["CMD","/usr/local/bin/portcullis","health"]' cat "$scratch"/image/*.json
says '"User":"65532:65532"' cat "$scratch"/image/*.json
# As the user that it names, in its own files: nothing of this machine can help.
in_image() {
    chroot --userspec=65532:65532 "$scratch/layers" /usr/local/bin/portcullis "$@"
}
says "portcullis $version" in_image --version
mkdir -p "$scratch/layers/etc/portcullis/tls"
# The C library finds names, and the certificates of authorities are where rustls looks for them.
echo '127.0.0.1 backend.lab' >"$scratch/layers/etc/hosts"
cat >"$scratch/layers/etc/portcullis/portcullis.yaml" <<'END'
listeners: [{address: "127.0.0.1:0", tls: explicit}]
tls: {certificate: tls/tls.crt, private_key: tls/tls.key}
passive: {ports: 0}
sites: [{name: ftp, default: true, backends: [{address: "backend.lab:1", tls: implicit}]}]
admin: {address: "127.0.0.1:0"}
END
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=ftp.example.com \
    -addext subjectAltName=DNS:ftp.example.com -keyout "$scratch/layers/etc/portcullis/tls/tls.key" \
    -out "$scratch/layers/etc/portcullis/tls/tls.crt" 2>/dev/null
chmod 644 "$scratch/layers/etc/portcullis/tls/tls.key"
says "1 site" in_image check --config /etc/portcullis/portcullis.yaml
found=$(in_image probe --config /etc/portcullis/portcullis.yaml) && fail "there is no backend, and probe finds one"
case $found in
*dns*ok*127.0.0.1*connect*failed*) ;;
*) fail "names aren't found in the image: $found" ;;
esac
mkfifo "$scratch/log"
# Not by in_image, whose process would be a shell.
chroot --userspec=65532:65532 "$scratch/layers" /usr/local/bin/portcullis run --config /etc/portcullis/portcullis.yaml \
    2>"$scratch/log" &
process=$!
trap 'kill "$process" 2>/dev/null || true; rm -rf "$scratch"' EXIT
{
    # Its log names the port that it has got, and ends with the process.
    address='' ready=''
    while [ -z "$ready" ] && read -r line; do
        case $line in
        *"admin endpoint open"*) address=${line##*address=} ;;
        *" listening address="*) ready=yes ;;
        esac
    done
    [ -n "$ready" ] || fail "the program in the image doesn't get ready"
    in_image health --ready --address "$address" || fail "the program in the image isn't healthy"
    kill "$process"
    wait "$process" || fail "the program in the image doesn't end well"
    ! in_image health --address "$address" 2>/dev/null || fail "what has ended is healthy"
} <"$scratch/log"

rm -rf "$system"
echo "the packages and the image are good"
