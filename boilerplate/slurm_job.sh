# What both jobs share: a folder on the node's own disk, and a clean end.

set -u
cd "$started_in" || exit 2

work=$work_dir
if [ -z "$work" ]; then
    local_disk=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}
    work=$(mktemp -d "$local_disk/scsnet-bids.XXXXXX") || exit 73
    trap 'rm -rf -- "$work"' EXIT
fi
mkdir -p -- "$work" || exit 73

# Run the app so that this shell still hears the scheduler: a job that is stopped a minute before
# its time ends can write down that it was, and remove its folder.
run_app() {
    app "$@" &
    local child=$! code
    trap 'kill -TERM "$child" 2>/dev/null' TERM
    wait "$child"
    code=$?
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        code=$?
    done
    trap - TERM
    return "$code"
}
