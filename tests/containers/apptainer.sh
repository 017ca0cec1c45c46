#!/bin/bash
# Turn the image of build.sh into SIF with scsnet-bids.def, whose test runs, and run both levels in it.
#
#     tests/containers/apptainer.sh FOLDER        # the folder that build.sh was given
#
# Needs root, buildah and debootstrap. Debian 12 has no Apptainer: that of Debian sid runs from a
# folder of its own, as the root of a mount namespace.

set -euo pipefail
root=$(realpath "${1:?give the folder that build.sh was given}")/image
source=$(realpath "$(dirname "$0")/../..")
B=(buildah --root "$root/storage" --runroot "$root/run" --storage-driver overlay)
shop=$root/sid
work=$root/sif

say() { printf '%s  %5s s  %s\n' "$(date -u +%H:%M:%S)" "$SECONDS" "$*"; }

# shellcheck disable=SC2016 # not the shell's variables
mirror() { apt-get indextargets --format '$(SITE) $(CODENAME)' | sed -n 's/ bookworm$//p' | head -n 1; }

# Run a command in sid, with $work as /mnt/w and without a network.
# shellcheck disable=SC2016 # they belong to the inner shell
in_sid() {
    unshare --mount --net --propagation private bash -euc '
        mount --bind "$1" "$1"
        mkdir -p "$1/mnt/w" "$1/.old"
        mount -t proc proc "$1/proc"; mount --rbind /sys "$1/sys"; mount --rbind /dev "$1/dev"
        mount --bind "$2" "$1/mnt/w"
        cd "$1"; pivot_root . .old; cd /; umount -l /.old
        shift 2
        exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin APPTAINER_TMPDIR=/mnt/w/tmp \
            APPTAINER_CACHEDIR=/mnt/w/cache APPTAINER_DROP_CAPS=CAP_SYS_RESOURCE "$@"' -- \
        "$shop" "$work" "$@"
}

mkdir -p "$work"/{tmp,cache,out,work}
say "$(date -u +%Y-%m-%d)"
if [ ! -x "$shop/usr/bin/apptainer" ]; then
    debootstrap --variant=minbase --include=apptainer,ca-certificates,squashfs-tools,fakeroot,e2fsprogs \
        sid "$shop" "$(mirror)" >"$root/debootstrap-sid.log" 2>&1
fi
echo "127.0.0.1 localhost" >"$shop/etc/hosts" # apptainer wants to show both to an image
touch "$shop/etc/resolv.conf"
say "$(in_sid apptainer --version)"
rm -f "$work/app.oci.tar"
"${B[@]}" push -q scsnet-bids:test "oci-archive:$work/app.oci.tar:app" >/dev/null
say "archive of the image: $(du -m "$work/app.oci.tar" | cut -f 1) MB"
cp "$source/scsnet-bids.def" "$work/"
in_sid bash -c 'cd /mnt/w && apptainer build --force --mksquashfs-args "-comp zstd -Xcompression-level 3" \
    --build-arg BOOTSTRAP=oci-archive --build-arg BASE=app.oci.tar app.sif scsnet-bids.def' \
    >"$root/sif.log" 2>&1 || { tail -n 30 "$root/sif.log"; say "FAILED: the build of the SIF"; exit 1; }
say "SIF built: $(du -m "$work/app.sif" | cut -f 1) MB; its test: $(grep -o 'Self-test passed.*' "$root/sif.log")"
rm "$work/app.oci.tar"
rm -rf "$work/data"
cp -r "$root/try/data" "$work/data"
in_sid apptainer run --cleanenv --bind /mnt/w/data:/data:ro --bind /mnt/w/out:/out --bind /mnt/w/work:/work \
    /mnt/w/app.sif /data /out participant group --nprocs 1 -w /work
(cd "$work/out" && find . -name '*.tsv' -not -path './logs/*' -exec sha256sum {} + | sort -k 2) |
    diff - "$root/try/by-pip.sums" || { say "FAILED: SIF and pip give different tables"; exit 1; }
say "the tables are the same, byte by byte, as those of the pip install"
say "passed"
