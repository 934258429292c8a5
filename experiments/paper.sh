#!/usr/bin/env bash
# The networks of Saied & Fleuret (2026) at full size, on an accelerator that is lent for some minutes at a time:
# each call trains for so many minutes and saves; call it again until it prints the tables.
#
#     WNE_DATA=... bash experiments/paper.sh MINUTES [PRESET]
set -euo pipefail
minutes=${1:?the minutes that may be used}
preset=${2:-paper}
SECONDS=0

in_time() { # run a command, and end here, with all work saved, when the time is over
  local left=$((60 * minutes - SECONDS)) code=0
  if ((left > 0)); then timeout --signal=TERM "$left" "$@" || code=$?; else code=124; fi
  if ((code == 124)); then echo "$minutes minutes are over; the same command goes on from here"; exit 0; fi
  return "$code"
}

for stage in "train --resume" "eval --overwrite"; do
  for backbone in "dncnn" "swinir --arms baseline wne"; do
    # shellcheck disable=SC2086 # several options
    in_time python -m experiments.robustness --preset "$preset" --backbone $backbone --stage $stage
  done
done
