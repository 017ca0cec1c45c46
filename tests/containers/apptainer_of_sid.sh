#!/bin/bash
# Apptainer of Debian sid on a machine whose own distribution has none, without a network.
#
#     SID=FOLDER SHOWN=FOLDER[:FOLDER] [AS_USER=54321] tests/containers/apptainer_of_sid.sh WORDS OF APPTAINER
#
# Needs root and debootstrap. SID is where that Debian lies, made on first use; SHOWN are the folders
# that it sees, at their own places. With AS_USER, Apptainer is an ordinary user's, as on a cluster: it
# lives on user namespaces and FUSE.

set -euo pipefail

# shellcheck disable=SC2016 # not the shell's variables
mirror() { apt-get indextargets --format '$(SITE) $(CODENAME)' | sed -n 's/ bookworm$//p' | head -n 1; }

if [ ! -e "$SID/ready" ]; then
    debootstrap --variant=minbase \
        --include=apptainer,ca-certificates,squashfs-tools,squashfuse,fuse3,fakeroot,e2fsprogs \
        sid "$SID" "$(mirror)" >"$SID.log" 2>&1 || { tail -n 5 "$SID.log" >&2; exit 1; }
    # What Apptainer wants to show to an image: names of hosts and of a user.
    echo "127.0.0.1 localhost" >"$SID/etc/hosts"
    touch "$SID/etc/resolv.conf"
    echo "user:x:54321:54321::/home/user:/bin/sh" >>"$SID/etc/passwd"
    echo "user:x:54321:" >>"$SID/etc/group"
    install -d -o 54321 -g 54321 "$SID/home/user"
    mknod -m 666 "$SID/fuse" c 10 229 # that of the machine may be root's alone
    touch "$SID/ready"
fi

# The rest belongs to the inner shell: Apptainer refuses a plain chroot, so the root itself is exchanged.
# shellcheck disable=SC2016
exec unshare --mount --net --propagation private bash -euc '
    mount --bind "$SID" "$SID"
    mount -t proc proc "$SID/proc"
    mount --rbind /sys "$SID/sys"
    mount --rbind /dev "$SID/dev"
    mount --bind "$SID/fuse" "$SID/dev/fuse"
    mkdir -p "$SID/.old"
    IFS=: read -ra shown <<<"$SHOWN"
    for folder in "${shown[@]}"; do
        mkdir -p "$SID$folder"
        mount --rbind "$folder" "$SID$folder"
    done
    cd "$SID"
    pivot_root . .old
    cd /
    umount -l /.old
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/tmp
    if [ -n "${AS_USER:-}" ]; then
        export HOME=/home/user
        exec setpriv --reuid "$AS_USER" --regid "$AS_USER" --clear-groups --no-new-privs apptainer "$@"
    fi
    export HOME=/root APPTAINER_DROP_CAPS=CAP_SYS_RESOURCE # which root may lack
    exec apptainer "$@"' -- "$@"
