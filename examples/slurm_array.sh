#!/usr/bin/env bash
# Preprocess and synthesise a data set, a task a participant:
#
#     sbatch --array=1-$(ls -d bids/sub-* | wc -l)%20 examples/slurm_array.sh bids derivatives synthetic run
#
# What is done is skipped, so an array that was cut short is sent again as it is.
#SBATCH --job-name=relapet
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=01:00:00
#SBATCH --signal=TERM@60
#SBATCH --output=relapet-%A_%a.log
set -euo pipefail

if [ $# -ne 4 ]; then
	echo "usage: sbatch --array=1-N $0 BIDS DERIVATIVES SYNTHETIC MODEL" >&2
	exit 2
fi
bids=$1 derivatives=$2 synthetic=$3 model=$4

# The participant of this task: the n-th folder sub-*.
participants=("$bids"/sub-*/)
number=$((${SLURM_ARRAY_TASK_ID:-1} - 1))
if [ "$number" -ge "${#participants[@]}" ]; then
	echo "$bids has ${#participants[@]} participants; there is nothing for task $((number + 1))." >&2
	exit 0
fi
label=$(basename "${participants[$number]}")

# Temporary files go to the node's own disk where there is one.
work=${TMPDIR:-/tmp}

relapet preprocess "$bids" "$derivatives" participant --participant-label "$label" -w "$work"
relapet synthesize "$derivatives" "$synthetic" participant --model "$model" --participant-label "$label" -w "$work"
