# One task of the array. The list is longer than an array may be, so the submission gives the
# number of lines to pass over.

line=$((SLURM_ARRAY_TASK_ID + ${1:-0} + 1))
IFS=$'\t' read -r participant session < <(sed -n "${line}p" "$folder/tasks.tsv") || exit 2
chosen=(--participant-label "$participant")
name=$participant
if [ "$session" != n/a ]; then
    chosen+=(--session-label "$session")
    name=${participant}_$session
fi

run_app participant "${chosen[@]}" "${limits[@]}" "${app_words[@]}"
code=$?

# One file per task, so that no two jobs ever write the same one.
job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}
row=("$participant" "$session" "$code" "$SECONDS" "$(hostname)" "$job" "$SLURM_ARRAY_TASK_ID")
partial=$folder/../codes/.$name.$job.$SLURM_ARRAY_TASK_ID
(IFS=$'\t'; printf '%s\n' "${row[*]}") >"$partial" &&
    mv -f -- "$partial" "$folder/../codes/$name.tsv"
echo "Exit code of $name: $code"
exit "$code"
