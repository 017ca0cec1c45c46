# After the array: gather exit codes, list what failed, make the group tables.
# The words of this script are the numbers of the array jobs; a task of this submission that left
# no exit code under one of them was killed, or never started.

header=$'participant_id\tsession_id\texit_code\tseconds\tnode\tjob\ttask'
partial=$folder/../.outcomes.$$
find "$folder/../codes" -name '*.tsv' ! -name '.*' -exec cat {} + |
    awk -F '\t' -v jobs=" $* " '
        { name = $1 FS $2 }
        NR == FNR { if (FNR > 1) ours[name]; next }
        name in ours && jobs != "  " && index(jobs, " " $6 " ") == 0 { next }
        { ended[name]; print }
        END {
            for (name in ours)
                if (!(name in ended)) print name FS "n/a" FS "n/a" FS "n/a" FS "n/a" FS "n/a"
        }' "$folder/tasks.tsv" - | LC_ALL=C sort >"$partial"
{ echo "$header"; awk -F '\t' '$3 != 0' "$partial"; } >"$partial.failed"
{ echo "$header"; cat "$partial"; } >"$partial.all"
mv -f -- "$partial.failed" "$folder/../failed.tsv"
mv -f -- "$partial.all" "$folder/../outcomes.tsv"
rm -f -- "$partial"

n_all=$(($(wc -l <"$folder/../outcomes.tsv") - 1))
n_failed=$(($(wc -l <"$folder/../failed.tsv") - 1))
echo "$((n_all - n_failed)) of $n_all tasks done."
if [ "$n_failed" -gt 0 ]; then
    echo "Failed, by exit code (n/a: killed by the scheduler, or never started):"
    awk -F '\t' 'NR > 1 { print "  " $1 ($2 == "n/a" ? "" : "_" $2) ": " $3 }' "$folder/../failed.tsv"
    echo "To run these again: $again"
fi

run_app group "${app_words[@]}"
exit $?
