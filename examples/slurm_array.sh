#!/usr/bin/env bash
# Preprocess and synthesise a data set, a task a participant:
#
#     sbatch --array=1-$(ls -d bids/sub-* | wc -l)%20 examples/slurm_array.sh bids derivatives synthetic run
#
# Send it from an environment in which `relapet` is a command (sbatch passes the environment on), or activate one below.
# What is done is skipped, and files are written whole or not at all: an array that was cut short is sent again as it is.
#SBATCH --job-name=relapet
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=01:00:00
#SBATCH --output=relapet-%A_%a.log
set -euo pipefail

if [ $# -ne 4 ]; then
	echo "usage: sbatch --array=1-N $0 BIDS DERIVATIVES SYNTHETIC MODEL" >&2
	exit 2
fi
bids=$1 derivatives=$2 synthetic=$3 model=$4

# module load python; source /path/to/.venv/bin/activate
if ! command -v relapet >/dev/null; then
	echo "There is no command relapet here; activate its environment before sbatch, or in this script." >&2
	exit 2
fi

# The participant of this task: the n-th folder sub-*.
shopt -s nullglob
participants=("$bids"/sub-*/)
if [ "${#participants[@]}" -eq 0 ]; then
	echo "$bids holds no folder sub-*; check the path." >&2
	exit 2
fi
number=$((${SLURM_ARRAY_TASK_ID:-1} - 1))
if [ "$number" -ge "${#participants[@]}" ]; then
	echo "$bids has ${#participants[@]} participants; there is nothing for task $((number + 1))." >&2
	exit 0
fi
label=$(basename "${participants[$number]}")

# Temporary files go to the node's own disk where there is one.
work=${TMPDIR:-/tmp}

# Status 1 says that a part failed, a PET or a session: what could be made is synthesised all the same.
status=0
relapet preprocess "$bids" "$derivatives" participant --participant-label "$label" -w "$work" || status=$?
if [ "$status" -gt 1 ]; then exit "$status"; fi
relapet synthesize "$derivatives" "$synthetic" participant --model "$model" --participant-label "$label" -w "$work"
exit "$status"
