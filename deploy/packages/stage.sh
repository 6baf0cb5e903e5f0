#!/bin/sh
# Puts together what the packages hold, as it lies in them, from this repository and from the program itself: it prints its own
# manual pages, completions and schema. [package.metadata.deb] and [package.metadata.generate-rpm] in Cargo.toml say what goes
# where.
#
#     deploy/packages/stage.sh BINARY DIRECTORY VERSION
#
# DIRECTORY is made anew. Dates in it are those of SOURCE_DATE_EPOCH, or of the last commit.
set -eu

repository=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
binary=$1 to=$2 version=$3

if [ -z "${SOURCE_DATE_EPOCH-}" ]; then
    SOURCE_DATE_EPOCH=$(git -C "$repository" log -1 --format=%ct 2>/dev/null || date +%s)
fi

rm -rf "$to"
mkdir -p "$to/completions" "$to/man" "$to/examples" "$to/systemd"

# The list of dependencies that cargo-auditable has put into the binary stays.
strip --remove-section=.comment -o "$to/portcullis" "$binary"
chmod 755 "$to/portcullis"

"$to/portcullis" man "$to/man"
gzip -9n "$to"/man/*
"$to/portcullis" completions bash >"$to/completions/portcullis"
"$to/portcullis" completions zsh >"$to/completions/_portcullis"
"$to/portcullis" completions fish >"$to/completions/portcullis.fish"
"$to/portcullis" schema >"$to/schema.json"

# /usr/local is for unpackaged programs.
as_packaged() {
    sed 's|/usr/local/bin/|/usr/bin/|' "$1"
}

as_packaged "$repository/deploy/systemd/portcullis.service" |
    sed '/^# README.md, "Deployment", installs it/d' >"$to/systemd/portcullis.service"
cp "$repository/deploy/systemd/portcullis.socket" "$to/systemd/"
for example in "$repository"/config/*.yaml; do
    sed '1s|\$schema=schema\.json|$schema=/usr/share/portcullis/schema.json|' "$example" \
        >"$to/examples/$(basename "$example")"
done
cp "$repository/deploy/certbot/portcullis-hook" "$to/examples/certbot-hook"
for unit in portcullis-pfx.path portcullis-pfx.service; do
    as_packaged "$repository/deploy/systemd/$unit" >"$to/examples/$unit"
done
cp "$repository/deploy/prometheus/alerts.yaml" "$to/examples/prometheus-alerts.yaml"

gzip -9nc "$repository/CHANGELOG.md" >"$to/changelog.gz"
cat >"$to/changelog.Debian" <<END
portcullis ($version) unstable; urgency=medium

  * What is new in this version is in changelog.gz.

 -- Portcullis developers <developers@portcullis.example>  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END

# Debian has Apache's licence on every system.
{
    cat <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Portcullis

Files: *
Copyright: 2026 The Portcullis developers
License: Expat or Apache-2.0

License: Expat
END
    # Behind its title and the line of the copyright.
    awk 'blank > 1 { print $0 == "" ? " ." : " " $0 } $0 == "" { blank++ }' "$repository/LICENSE-MIT"
    cat <<END

License: Apache-2.0
 On Debian systems the whole text is in /usr/share/common-licenses/Apache-2.0.
END
} >"$to/copyright"
