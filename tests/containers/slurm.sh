#!/bin/bash
# Run the array job on a real SLURM of one node, started by hand and stopped at the end.
#
#     tests/containers/slurm.sh
#     SID=FOLDER/image/sid tests/containers/slurm.sh FOLDER/image/sif/app.sif   # after apptainer.sh FOLDER
#
# Needs root and the packages slurm-wlm and munge. Uses the scsnet-bids on the path, or the image, which
# then also writes the scripts.
# Six tiny phantoms, one of them without b-vectors: five results, one named failure, a group table
# of five; then the fault is mended, and only that one is run again.
# APP: folder of the console scripts (default: that of scsnet-bids). KEEP: keep the folder.

set -euo pipefail
here=$(realpath "$(dirname "$0")")
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

# What a cluster has under the name apptainer.
make_apptainer() {
    mkdir "$root/bin"
    printf '#!/bin/bash\nSID=%q SHOWN=%q exec %q "$@"\n' "$(realpath "${SID:?}")" \
        "$root:$(dirname "$image")" "$here/apptainer_of_sid.sh" >"$root/bin/apptainer"
    chmod 755 "$root/bin/apptainer"
}

helper() {
    if [ -z "$image" ]; then
        "$APP/scsnet-bids-slurm" "$data" "$out" "$@"
    else
        "$root/bin/apptainer" exec --cleanenv --bind "$root" --bind "$(dirname "$image")" "$image" \
            scsnet-bids-slurm "$data" "$out" --image "$image" --setup "PATH=$root/bin:\$PATH" "$@" \
            2> >(grep -v '^INFO:' >&2)
    fi
}

submit() {
    local limits=(--mem 3G --time 10 --at-a-time "$(nproc --all)")
    export TMPDIR=$root/scratch
    if [ -z "$image" ]; then
        helper "${limits[@]}" "$@" --submit
    else
        helper "${limits[@]}" "$@"
        bash "$(find "$out/logs/slurm" -name submit.sh | sort | tail -n 1)"
    fi
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
if [ -n "$image" ]; then
    out="$root/out it's"
    mkdir "$out"
    make_apptainer
fi
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
    "$(helper)"

# What the scheduler does a minute before a task's time ends.
(
    until [ -n "$(squeue -h -t RUNNING)" ]; do sleep 0.2; done
    sleep 4
    scancel --batch --signal=TERM "$(squeue -h -t RUNNING -o %A | head -n 1)"
) &
submit --again --participant-label 01
expect "exit code of a task that was stopped" 143 "$(cut -f 3 "$list/codes/sub-01.tsv")"
expect "failed, and its exit code" "sub-01 143" "$(column "$list/failed.tsv" 1,3 | tr '\t' ' ')"
expect "left on the node's disk" 0 "$(find "$root/scratch" -mindepth 1 | wc -l)"
submit --only-failed
expect "failed now" 0 "$(n_rows "$list/failed.tsv")"

# Nipype's own plugin: a job for every step. Whatever ends the command, no job of it stays.
queue() { squeue -h -t PENDING,RUNNING -o '%i %j'; }
wait_for_jobs() { # number
    for _ in $(seq 300); do
        if [ "$(queue | wc -l)" -ge "$1" ]; then return; fi
        sleep 0.2
    done
    fail "there never were $1 jobs in the queue"
}

check_plugin() {
    printf '{"plugin": "SLURM", "plugin_args": {"sbatch_args": "--time=10 --export=ALL"}}' \
        >"$root/plugin.json"
    local words=("$data" "$root/plugin out" participant --use-plugin "$root/plugin.json") signal code child
    (unset LOGNAME && "$APP/scsnet-bids" "${words[@]}" --participant-label 01 -w "$root/plugin work") |
        tail -n 1
    expect "tables equal those of the array" "" "$(cd "$root/plugin out" && \
        find sub-01 -name '*.tsv' -exec cmp {} "$out/{}" \; 2>&1)"
    expect "jobs of one step" 1 "$(grep -c locate_cord "$root/log/jobcomp.log")"

    # One job is killed while those of other participants wait or run.
    words+=(--participant-label 01 02 03)
    (wait_for_jobs 2; scancel "$(squeue -h -o %i | sort -n | head -n 1)") &
    "$APP/scsnet-bids" "${words[@]}" --stop-on-first-crash -w "$root/killed work" \
        >"$root/killed.txt" && fail "a killed job was not noticed"
    expect "left in the queue after a killed job" "" "$(queue)"
    grep -q "Failed: sub-01" "$root/killed.txt" || fail "a killed job is not named"

    for signal in INT TERM; do
        # Bash lets its children in the background ignore SIGINT; this one must not.
        env --default-signal=INT "$APP/scsnet-bids" "${words[@]}" -w "$root/$signal work" \
            >"$root/$signal.txt" 2>&1 &
        child=$!
        wait_for_jobs 2
        say "in the queue when SIG$signal comes: $(queue | wc -l)"
        kill -s "$signal" "$child"
        code=0
        wait "$child" || code=$?
        expect "exit code after SIG$signal" "$((128 + $(kill -l "$signal")))" "$code"
        expect "left in the queue after SIG$signal" "" "$(queue)"
    done
}

# The script that docs/cluster.md shows for sites with ways of their own, with the folders of this test.
check_page() {
    local page=$here/../../docs/cluster.md folders=(-e "s#-B /data:#-B $root/plain-data:#" \
        -e "s#-B /out:#-B $root/plain-out:#" -e "s#scsnet-bids.sif#$image#" -e 's/^    //')
    ln -s "$data" "$root/plain-data"
    mkdir "$root/plain-out"
    cd "$root"
    export PATH=$root/bin:$PATH
    printf '%s\n' sub-01 sub-02 >participants.txt
    sed -n '/^    #!\/bin\/bash$/,/^$/p' "$page" | sed "${folders[@]}" -e 's/1-20%10/1-2/' >plain.sbatch
    (grep -A 1 '^    sbatch --dependency' "$page" | sed "${folders[@]}" -e "s/JOBID/\$1/") >group.sh
    bash group.sh "$(sbatch --parsable plain.sbatch)" >/dev/null
    wait_for_queue
    expect "rows of the group table, by the page's own script" 2 \
        "$(n_rows "$root/plain-out/group_wide_scalarstats.tsv")"
    expect "tables equal those of the array" "" "$(cd "$root/plain-out" && \
        find sub-01 sub-02 -name '*.tsv' -exec cmp {} "$out/{}" \; 2>&1)"
}
if [ -z "$image" ]; then check_plugin; else check_page; fi

say "jobs, as SLURM saw them:"
sed -E 's/.*JobId=([0-9]+).*JobState=([A-Z]+).*StartTime=([^ ]+) EndTime=([^ ]+).*/\1 \2 \3 \4/' \
    "$root/log/jobcomp.log"
say "passed"
