#!/bin/bash
# Run the array job on a real SLURM of one node, started by hand and stopped at the end.
#
#     tests/containers/slurm.sh [IMAGE.sif]
#
# Needs root and the packages slurm-wlm and munge. Uses the scsnet-bids on the path, or the image.
# Six tiny phantoms, one of them without b-vectors: five results, one named failure, a group table
# of five; then the fault is mended, and only that one is run again.
# APP: folder of the console scripts (default: that of scsnet-bids). KEEP: keep the folder.

set -euo pipefail
image=${1:+$(realpath "$1")}
APP=${APP:-$(dirname "$(command -v scsnet-bids)")}
root=$(mktemp -d "${TMPDIR:-/tmp}/scsnet-slurm.XXXXXX")
host=$(hostname -s)
export SLURM_CONF=$root/slurm.conf LOGNAME=${LOGNAME:-root} OMP_NUM_THREADS=1

say() { printf '%s  %5s s  %s\n' "$(date -u +%H:%M:%S)" "$SECONDS" "$*"; }
fail() { say "FAILED: $*"; exit 1; }

stop() {
    code=$?
    for name in slurmd slurmctld munge/munged; do
        if [ -s "$root/$name.pid" ]; then kill "$(cat "$root/$name.pid")" 2>/dev/null || true; fi
    done
    sleep 1
    if [ -n "${KEEP:-}" ] || [ $code -ne 0 ]; then say "kept: $root"; else rm -rf "$root"; fi
    exit $code
}
trap stop EXIT

start_cluster() {
    mkdir -p "$root"/{munge,state,spool,log,scratch}
    chmod 711 "$root" "$root/munge"
    chmod 1777 "$root/scratch"
    dd if=/dev/urandom of="$root/munge/munge.key" bs=1 count=1024 status=none
    chmod 400 "$root/munge/munge.key"
    munged --force --key-file="$root/munge/munge.key" --socket="$root/munge/munge.socket" \
        --pid-file="$root/munge/munged.pid" --log-file="$root/munge/munged.log" \
        --seed-file="$root/munge/munged.seed"
    write_configuration >"$SLURM_CONF"
    slurmctld -c
    slurmd
    for _ in $(seq 60); do
        if sinfo -h -o %T 2>/dev/null | grep -q idle; then return; fi
        sleep 0.5
    done
    fail "the node did not become idle; see $root/log"
}

write_configuration() {
    cat <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$root/munge/munge.socket
CryptoType=crypto/munge
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile=$root/slurmctld.pid
SlurmdPidFile=$root/slurmd.pid
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdLogFile=$root/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$root/log/jobcomp.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
KillWait=5
DefMemPerCPU=2000
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=12000 State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
}

wait_for_queue() {
    for _ in $(seq 600); do
        if [ -z "$(squeue -h)" ]; then return; fi
        sleep 1
    done
    fail "jobs are still in the queue: $(squeue)"
}

submit() {
    TMPDIR=$root/scratch "$APP/scsnet-bids-slurm" "$data" "$out" --mem 3G --time 10 \
        --at-a-time "$(nproc --all)" ${image:+--image "$image"} "$@" --submit
    wait_for_queue
}

expect() { # what, wanted, found
    if [ "$2" = "$3" ]; then say "as expected: $1: $3"; else fail "$1: wanted $2, found $3"; fi
}

n_rows() { tail -n +2 "$1" | wc -l; }
column() { tail -n +2 "$1" | cut -f "$2" | paste -sd ' ' -; }

say "$(date -u +%Y-%m-%d), $(slurmctld -V)"
start_cluster
say "one-node cluster is idle"

# Awkward on purpose; an image cannot be shown a folder with a colon or a comma.
data="$root/data of \$HOME"
out="$root/out, it's"
if [ -n "$image" ]; then out="$root/out it's"; fi
"$APP/scsnet-bids-phantom" "$data" --tiny --participants 6
mv "$data/sub-04/dwi/sub-04_dwi.bvec" "$root/kept.bvec"
say "dataset of 6 participants, sub-04 without b-vectors"

submit
say "the array and its group job have ended"
list=$out/logs/slurm
expect "tasks that ended" 6 "$(n_rows "$list/outcomes.tsv")"
expect "failed, and its exit code" "sub-04 65" "$(column "$list/failed.tsv" 1,3 | tr '\t' ' ')"
expect "participants with a region table" 5 \
    "$(find "$out" -name '*_seg-SCSNet_scalarstats.tsv' -path '*/dwi/*' | wc -l)"
expect "rows of the group table" 5 "$(n_rows "$out/group_wide_scalarstats.tsv")"
grep -q 'sub-04_dwi.bvec' "$out/logs/sub-04_runs.tsv" || fail "the failure is not explained"
say "explained: $(tail -n 1 "$out/logs/sub-04_runs.tsv" | cut -f 3 | cut -c 1-60)..."
expect "left on the node's disk" 0 "$(find "$root/scratch" -mindepth 1 | wc -l)"
column "$list/outcomes.tsv" 1,3,4 | tr '\t' ':'

mv "$root/kept.bvec" "$data/sub-04/dwi/sub-04_dwi.bvec"
submit --only-failed
say "what had failed was run again"
expect "tasks of the second array" sub-04 \
    "$(column "$(find "$list" -name tasks.tsv | sort | tail -n 1)" 1)"
expect "failed now" 0 "$(n_rows "$list/failed.tsv")"
expect "rows of the group table" 6 "$(n_rows "$out/group_wide_scalarstats.tsv")"
expect "nothing to do" "Nothing to do: 6 of 6 complete." \
    "$("$APP/scsnet-bids-slurm" "$data" "$out")"

# Nipype's own plugin: a job for every step; a job that is killed ends the command, and none stays.
printf '{"plugin": "SLURM", "plugin_args": {"sbatch_args": "--time=10 --export=ALL"}}' \
    >"$root/plugin.json"
one=("$data" "$root/plugin out" participant --participant-label 01 -w "$root/plugin work")
(unset LOGNAME && "$APP/scsnet-bids" "${one[@]}" --use-plugin "$root/plugin.json") | tail -n 1
expect "tables equal those of the array" "" "$(cd "$root/plugin out" && \
    find sub-01 -name '*.tsv' -exec cmp {} "$out/{}" \; 2>&1)"
n_jobs=$(grep -c locate_cord "$root/log/jobcomp.log")
expect "jobs of one step" 1 "$n_jobs"
(until [ -n "$(squeue -h)" ]; do sleep 0.2; done; scancel "$(squeue -h -o %i | head -n 1)") &
"$APP/scsnet-bids" "${one[@]}" -w "$root/other work" --use-plugin "$root/plugin.json" \
    >"$root/killed.txt" && fail "a killed job was not noticed"
grep -q "Failed: sub-01" "$root/killed.txt" || fail "a killed job is not named"
expect "left in the queue" "" "$(squeue -h)"

say "jobs, as SLURM saw them:"
sed -E 's/.*JobId=([0-9]+).*JobState=([A-Z]+).*StartTime=([^ ]+) EndTime=([^ ]+).*/\1 \2 \3 \4/' \
    "$root/log/jobcomp.log"
say "passed"
