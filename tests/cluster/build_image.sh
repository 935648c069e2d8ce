#!/usr/bin/env bash
# Builds the image of the Dockerfile with Debian's buildah, on a Debian that debootstrap makes:
#   sudo tests/cluster/build_image.sh TAG [--build-arg EXTRA_REQUIREMENTS=...]
# Needs root and Debian's packages `buildah` and `debootstrap`; no daemon, no registry of images. pip installs in it with
# the settings that it has on this machine: those of $PYTHON (default python3), and the files they name.
# MIRROR and SUITE choose the Debian. Images lie below $STORAGE_ROOT (default: that of buildah); STORAGE_DRIVER=vfs is for
# machines without overlay mounts, and takes three times the space.
set -euo pipefail

tag=${1:?"usage: $0 TAG [argument of buildah build ...]"}
shift
project=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
base=localhost/defectloc-debian
export BUILDAH_ISOLATION=chroot
buildah=(buildah ${STORAGE_DRIVER:+--storage-driver "$STORAGE_DRIVER"}
    ${STORAGE_ROOT:+--root "$STORAGE_ROOT/root" --runroot "$STORAGE_ROOT/run"})

[ "$(id -u)" = 0 ] || { echo "$0: must be root." >&2; exit 1; }
for program in buildah debootstrap "$python"; do
    command -v "$program" > /dev/null || { echo "$0: '$program' is missing." >&2; exit 1; }
done
folder=$(mktemp -d "${TMPDIR:-/tmp}/image.XXXXXX")
trap 'rm -rf "$folder"' EXIT

if ! "${buildah[@]}" inspect --type image "$base" > /dev/null 2>&1; then
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
        "${SUITE:-bookworm}" "$folder/debian" "${MIRROR:-http://deb.debian.org/debian}" > "$folder/debootstrap.log" ||
        { tail -n 20 "$folder/debootstrap.log" >&2; exit 1; }
    rm -rf "$folder"/debian/var/cache/apt/* "$folder"/debian/var/lib/apt/lists/*
    container=$("${buildah[@]}" from scratch)
    "${buildah[@]}" add --quiet "$container" "$folder/debian" / > /dev/null
    "${buildah[@]}" commit --quiet --rm "$container" "$base" > /dev/null
    rm -rf "$folder/debian"
fi

# One line for each mount: the settings as pip.conf, and each file or folder of this machine that they name.
"$python" - "$folder/pip.conf" > "$folder/mounts" <<'PYTHON'
import re, subprocess, sys
from pathlib import Path

listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
settings = dict(re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", listed.stdout, re.MULTILINE))
Path(sys.argv[1]).write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
print(f"{sys.argv[1]}:/etc/pip.conf:ro")
for word in sorted({word for value in settings.values() for word in value.replace(r"\n", " ").split()}):
    # The pages of an index in a folder link to files beside it.
    path = Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
    if path.is_absolute() and path.exists():
        print(f"{path}:{path}:ro")
PYTHON
volumes=()
while read -r mount; do volumes+=(--volume "$mount"); done < "$folder/mounts"

# Without a cache of layers, which would keep each of them.
"${buildah[@]}" build --layers=false --format docker --build-arg BASE_IMAGE="$base" "${volumes[@]}" "$@" \
    --tag "$tag" "$project"
