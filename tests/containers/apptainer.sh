#!/bin/bash
# Turn the image of build.sh into SIF with scsnet-bids.def, whose test runs, and run both levels in it:
# offline, input read-only, as an ordinary user.
#
#     tests/containers/apptainer.sh FOLDER        # the folder that build.sh was given
#
# Needs root, buildah and debootstrap (apptainer_of_sid.sh says for what).

set -euo pipefail
here=$(realpath "$(dirname "$0")")
root=$(realpath "${1:?give the folder that build.sh was given}")/image
B=(buildah --root "$root/storage" --runroot "$root/run" --storage-driver overlay)
work=$root/sif
export SID=$root/sid SHOWN=$work AS_USER=54321
export APPTAINER_TMPDIR=$work/tmp APPTAINER_CACHEDIR=$work/cache

say() { printf '%s  %5s s  %s\n' "$(date -u +%H:%M:%S)" "$SECONDS" "$*"; }
fail() { say "FAILED: $*"; exit 1; }
apptainer() { "$here/apptainer_of_sid.sh" "$@"; }
run() {
    apptainer run --cleanenv --bind "$work/data:/data:ro" --bind "$work/out:/out" \
        --bind "$work/work:/work" "$work/app.sif" /data /out "$@" -w /work
}

rm -rf "$work"
mkdir -p "$work"/{tmp,cache,out,work}
cp -r "$root/try/data" "$work/data"
say "$(date -u +%Y-%m-%d), $(apptainer --version)"
"${B[@]}" push -q scsnet-bids:test "oci-archive:$work/app.oci.tar:app" >/dev/null
size_mb() { du --block-size=1000000 "$1" | cut -f 1; }
say "archive of the image: $(size_mb "$work/app.oci.tar") MB"
cp "$here/../../scsnet-bids.def" "$work/"
chown -R "$AS_USER:$AS_USER" "$work"
# The dataset stays root's: the user cannot write there even without the read-only mount.
chown -R root:root "$work/data"
apptainer build --force --mksquashfs-args "-comp zstd -Xcompression-level 3 -processors 1" \
    --build-arg BOOTSTRAP=oci-archive --build-arg BASE="$work/app.oci.tar" \
    "$work/app.sif" "$work/scsnet-bids.def" >"$root/sif.log" 2>&1 ||
    { tail -n 30 "$root/sif.log"; fail "the build of the SIF"; }
say "SIF built by user $AS_USER: $(size_mb "$work/app.sif") MB; its test: $(grep -o 'Self-test passed.*' "$root/sif.log")"
rm "$work/app.oci.tar"
run participant --nprocs 1
say "participant level, offline, input read-only, as user $AS_USER"
run group
say "group level"
(cd "$work/out" && find . -name '*.tsv' -not -path './logs/*' -exec sha256sum {} + | sort -k 2) |
    diff - "$root/try/by-pip.sums" || fail "SIF and pip give different tables"
say "$(wc -l <"$root/try/by-pip.sums") tables are the same, byte by byte, as those of the pip install"
say "passed"
