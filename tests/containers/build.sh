#!/bin/bash
# Build the real Dockerfile without a Docker engine, look into the image, run it, compare.
#
#     tests/containers/build.sh FOLDER        # scratch folder on a disk with 10 GB free
#
# Needs root and the packages buildah and debootstrap. The base is made by debootstrap from the
# mirror of this machine's apt, under the name that the Dockerfile uses; certificates and pip's
# settings are this machine's own and only lent to the build.
# PYTHON_APP: folder of the console scripts to compare with (default: that of scsnet-bids).
# REVISION: written into the labels (default: the commit that is checked out).

set -euo pipefail
root=$(realpath "${1:?give a scratch folder}")/image
source=$(realpath "$(dirname "$0")/../..")
here=${PYTHON_APP:-$(dirname "$(command -v scsnet-bids)")}
mkdir -p "$root"
export OMP_NUM_THREADS=1
B=(buildah --root "$root/storage" --runroot "$root/run" --storage-driver overlay)
base=debian:bookworm-slim
most_mb=1600

say() { printf '%s  %5s s  %s\n' "$(date -u +%H:%M:%S)" "$SECONDS" "$*"; }
fail() { say "FAILED: $*"; exit 1; }

mirror() {
    local line
    # shellcheck disable=SC2016 # not the shell's variables
    line=$(apt-get indextargets --format '$(SITE) $(CODENAME)' | grep -m 1 ' bookworm$') ||
        fail "this machine's apt knows no Debian bookworm"
    echo "${line% *}"
}

make_base() {
    if "${B[@]}" images -q "localhost/$base" >/dev/null 2>&1; then return; fi
    debootstrap --variant=minbase --include=ca-certificates bookworm "$root/base" "$(mirror)" \
        >"$root/debootstrap.log"
    rm -f "$root"/base/var/cache/apt/archives/*.deb
    tar -C "$root/base" --one-file-system -cf "$root/base.tar" .
    rm -rf --one-file-system "$root/base"
    local container
    container=$("${B[@]}" from scratch)
    "${B[@]}" add -q "$container" "$root/base.tar" / >/dev/null
    "${B[@]}" config --cmd /bin/bash "$container"
    "${B[@]}" commit -q "$container" "localhost/$base" >/dev/null
    "${B[@]}" rm "$container" >/dev/null
    rm "$root/base.tar"
}

build_image() {
    local lent=() words=() folder
    if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
        lent+=(-v /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro)
    fi
    if [ -f /etc/pip.conf ]; then lent+=(-v /etc/pip.conf:/etc/pip.conf:ro); fi
    # Local folders that pip's settings name, with wheels or an index in them.
    for folder in $(pip config list | grep -oE "[ '](file://)?/[^ ']+" | sed -E "s/^[ ']//; s,^file://,," | sort -u); do
        if [ -d "$folder" ]; then lent+=(-v "$folder:$folder:ro"); fi
    done
    if [ -n "${PIP_FIND_LINKS:-}" ]; then words+=(--build-arg "PIP_FIND_LINKS=$PIP_FIND_LINKS"); fi
    "${B[@]}" bud --layers --isolation chroot --network host --pull-never "${lent[@]}" "${words[@]}" \
        --build-arg VERSION="$("$here/scsnet-bids" --version | cut -d ' ' -f 2)" \
        --build-arg REVISION="${REVISION:-$(git -C "$source" rev-parse --short HEAD 2>/dev/null || echo unknown)}" \
        --build-arg CREATED="$(date -u +%FT%TZ)" \
        -t scsnet-bids:test -f "$source/Dockerfile" "$source" >"$root/build.log" 2>&1 ||
        { tail -n 30 "$root/build.log"; fail "the build; see $root/build.log"; }
}

# A command in the image: no network, no capability, nothing writable but what is given, not even
# /tmp, and a user that the image does not know. First the options of podman, then --, then the command.
in_image() {
    local options=()
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    # This machine's control groups may be a mixture that podman refuses; it gets none.
    unshare --mount --propagation private bash -c '
        umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup; exec "$@"' -- \
        podman --root "$root/storage" --runroot "$root/run" --storage-driver overlay run --rm \
        --cgroups disabled --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network none \
        --read-only --read-only-tmpfs=false --cap-drop ALL --security-opt no-new-privileges \
        --user 54321:54321 "${options[@]}" localhost/scsnet-bids:test "$@"
}

# The app in its image: input read-only, output and work folder given.
app_in_image() {
    in_image -v "$root/try/data:/data:ro" -v "$root/try/in-image/out:/out" \
        -v "$root/try/in-image/work:/work" -- /data /out "$@" -w /work
}

# What a process in the image is, so that the runs below prove what they say.
# shellcheck disable=SC2016 # for the shell in the image
check_confinement() {
    in_image --entrypoint /bin/sh -- -euc '
        test "$(id -u)" = 54321
        grep -q "^CapEff:[[:space:]]*0*$" /proc/self/status
        grep -q "^CapBnd:[[:space:]]*0*$" /proc/self/status
        grep -q "^NoNewPrivs:[[:space:]]*1$" /proc/self/status
        test "$(ls /sys/class/net)" = lo
        for folder in / /tmp /var/tmp /run "$HOME"; do
            if touch "$folder/written" 2>/dev/null; then echo "writable: $folder"; exit 1; fi
        done' || fail "a process in the image has more than it should"
}

# Tables of an output folder with their checksums.
tables() { (cd "$1" && find . -name '*.tsv' -not -path './logs/*' -exec sha256sum {} + | sort -k 2); }

# Nothing may be printed by these.
look_into() {
    local image=$1
    (cd "$image" && {
        find . -xdev ! -type d \( -name 'gcc*' -o -name 'g++*' -o -name cc -o -name 'c++*' -o -name cpp -o -name 'cpp-[0-9]*' \
            -o -name 'clang*' -o -name '*-linux-gnu-*gcc*' -o -name ld -o -name as -o -name make \
            -o -name nvcc -o -name ptxas -o -name rustc -o -name pip -o -name 'pip3*' -o -name uv \) \
            -path '*bin/*' | sed 's/^/compiler or installer: /'
        # Meant: the three folders for everybody's short-lived files, where none removes another's.
        find . -xdev ! -type l ! -type c -perm -0002 \
            ! \( -type d -perm -1000 \( -path ./tmp -o -path ./var/tmp -o -path ./run/lock \) \) |
            sed 's/^/world-writable: /'
        find . -xdev -type f -perm /6000 | sed 's/^/runs as another user: /'
        find . -xdev \( -name .git -o -name .netrc -o -name .pypirc -o -name 'id_rsa*' -o -name .ssh \
            -o -name .aws -o -name .docker -o -name pip.conf -o -name '.env' \) ! -empty |
            sed 's/^/secret or setting: /'
        grep -rlE --binary-files=without-match -e '-----BEGIN [A-Z ]*PRIVATE KEY' opt etc root home 2>/dev/null |
            sed 's/^/private key: /'
        find tmp var/tmp var/cache/apt/archives root home -type f ! -name lock \
            ! -path root/.bashrc ! -path root/.profile | sed 's/^/left over: /'
    }) || true
}

# Words of the image's configuration and history that would give a password or an index away.
look_at_words() {
    "${B[@]}" inspect --type image scsnet-bids:test |
        grep -iE 'password|secret|token|[a-z]+://[^ ]*@|index.url' | sed 's/^ */secret or setting: /' || true
}

say "$(date -u +%Y-%m-%d), $(buildah --version), $(podman --version)"
make_base
say "base image $base, made by debootstrap"
build_image
say "image built; its self-test has passed: $(grep -o 'Self-test passed.*' "$root/build.log" | tail -n 1)"

container=$("${B[@]}" from --pull-never scsnet-bids:test)
trap '"${B[@]}" umount "$container" >/dev/null 2>&1; "${B[@]}" rm "$container" >/dev/null 2>&1' EXIT
mounted=$("${B[@]}" mount "$container")
size_mb() { du -sx --block-size=1000000 "$1" | cut -f 1; }
say "unpacked: $(size_mb "$mounted") MB, of it /opt/scsnet $(size_mb "$mounted/opt/scsnet") MB"
[ "$(size_mb "$mounted")" -lt "$most_mb" ] || fail "the image must stay under $most_mb MB"
"${B[@]}" inspect --format '{{.OCIv1.Config}}{{"\n"}}' "$container"
found=$(look_into "$mounted"; look_at_words)
if [ -n "$found" ]; then echo "$found"; fail "something is in the image that should not be"; fi
say "no compiler, no installer, no secret, nothing world-writable but /tmp and its like, no setuid program"
check_confinement
say "a process in it: user 54321, no capability, no network, nothing writable"

rm -rf "$root/try"
mkdir -p "$root/try/in-image/"{out,work} "$root/try/by-pip"
"$here/scsnet-bids-phantom" "$root/try/data" --tiny --participants 2
chmod -R a+rX "$root/try"
chown -R 54321:54321 "$root/try/in-image"
app_in_image participant --nprocs 1
say "participant level, offline, read-only, user 54321 without capabilities"
app_in_image group
say "group level"
"$here/scsnet-bids" "$root/try/data" "$root/try/by-pip/out" participant group --nprocs 1 \
    -w "$root/try/by-pip/work"
tables "$root/try/in-image/out" >"$root/try/in-image.sums"
tables "$root/try/by-pip/out" >"$root/try/by-pip.sums"
diff "$root/try/in-image.sums" "$root/try/by-pip.sums" || fail "image and pip give different tables"
say "$(wc -l <"$root/try/by-pip.sums") tables are the same, byte by byte, as those of the pip install"
say "passed"
