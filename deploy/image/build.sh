#!/bin/sh
# Builds the image of the Dockerfile without an engine, without a registry and without compiling anything: by buildah, from a
# binary that this machine has built. The result is an archive that `docker load` and `podman load` take.
#
#     deploy/image/build.sh BINARY ARCHIVE
#
# Needs buildah (on Debian as root: apt install buildah).
set -eu

repository=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
binary=$1 archive=$2

command -v buildah >/dev/null || {
    echo "deploy/image/build.sh: buildah is missing: on Debian as root: apt install buildah" >&2
    exit 1
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Layers are copied and not mounted: that works inside containers, too.
buildah() {
    command buildah --root "$scratch/storage" --runroot "$scratch/run" --storage-driver vfs "$@"
}

"$repository/deploy/image/rootfs.sh" "$binary" "$scratch/builder/rootfs"
# Docker's format, since HEALTHCHECK is no part of OCI's.
buildah build --quiet --format docker --isolation chroot --build-context "builder=$scratch/builder" \
    --tag portcullis "$repository" >/dev/null
rm -f "$archive"
buildah push --quiet portcullis "docker-archive:$archive:portcullis:latest"
echo "$archive"
