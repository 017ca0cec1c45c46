# Submit the array, and the group job after it.

set -eu
cd "$folder" # where the logs go
after=
jobs=()
for ((first = 0; first < n_tasks; first += most_tasks)); do
    last=$((n_tasks - first < most_tasks ? n_tasks - first : most_tasks))
    # Several arrays run one after the other where only some tasks may run at a time.
    job=$(sbatch --parsable --array="1-$last$at_a_time" ${after:+"--dependency=afterany:$after"} \
        participant.sbatch "$first")
    jobs+=("${job%%;*}")
    if [ -n "$at_a_time" ]; then after=${job%%;*}; fi
done
# afterany, not afterok: the group tables must also be made when some participants have failed, and
# with afterok the job would wait for ever once one has.
all=$(IFS=:; echo "${jobs[*]}")
group=$(sbatch --parsable --dependency="afterany:$all" group.sbatch "${jobs[@]}")
echo "Submitted: array ${jobs[*]}, then group job ${group%%;*}. Logs: $folder"
