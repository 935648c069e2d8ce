#!/usr/bin/env bash
# Runs a command in an image that build_image.sh has built, as a cluster does: as a user that is not root, with a root
# file system that is read-only, without a network, and with one folder of this machine for the results:
#   sudo tests/cluster/run_image.sh TAG OUTPUTS [VARIABLE=VALUE ...] defectloc train subset=pill ...
# buildah alone cannot make the root read-only, so its container is mounted in a namespace of its own.
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: $0 TAG OUTPUTS [VARIABLE=VALUE ...] COMMAND ..." >&2; exit 1; }
tag=$1 outputs=$(realpath "$2")
shift 2
user=${IMAGE_USER:-1000:1000}
export BUILDAH_ISOLATION=chroot
buildah=(buildah ${STORAGE_DRIVER:+--storage-driver "$STORAGE_DRIVER"}
    ${STORAGE_ROOT:+--root "$STORAGE_ROOT/root" --runroot "$STORAGE_ROOT/run"})

# One container for all commands, which cannot change it. `buildah rm` removes it.
container=run-$(tr -c '[:alnum:]\n' - <<< "$tag")
"${buildah[@]}" inspect --type container "$container" > /dev/null 2>&1 ||
    "${buildah[@]}" from --pull-never --name "$container" "$tag" > /dev/null
trap '"${buildah[@]}" umount "$container" > /dev/null' EXIT
root=$("${buildah[@]}" mount "$container")
settings=$("${buildah[@]}" inspect --type image --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$tag")
mapfile -t environment < <(grep = <<< "$settings")

# shellcheck disable=SC2016
unshare --mount --pid --net --fork bash -c '
    root=$1 outputs=$2 user=$3
    shift 3
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"
    mount --bind "$outputs" "$root/work/outputs"
    exec chroot --userspec="$user" "$root" /usr/bin/env -C /work -i "$@"
' run "$root" "$outputs" "$user" "${environment[@]}" "$@"
