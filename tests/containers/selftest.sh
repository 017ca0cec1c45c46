#!/bin/sh
# Run both levels on a tiny phantom through the entry point; part of the image.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
scsnet-bids-phantom data --tiny --participants 1
scsnet-bids data out participant group --nprocs 1 --work-dir work
test "$(wc -l <out/group_wide_scalarstats.tsv)" -eq 2
echo "Self-test passed: $(scsnet-bids --version)"
