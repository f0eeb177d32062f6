#!/usr/bin/env bash
# Runs a command again until it is done; `gtalign train` resumes by itself from its last checkpoint.
#
#   ./launch/watch.sh gtalign train configs/quickstart.py workdir=runs/mine
#
# Exit 0 (done) and 2 (bad input: it would fail again) end the loop, and so does a signal to this
# script, which is passed on so that the run can end in order. Anything else is restarted after a
# pause that doubles from 5 s to 300 s; GTALIGN_MAX_RESTARTS (8) failures in a row end it with the
# last exit code. A run that lasted GTALIGN_HEALTHY_SECONDS (600) starts the count anew.
set -euo pipefail

max="${GTALIGN_MAX_RESTARTS:-8}" healthy="${GTALIGN_HEALTHY_SECONDS:-600}"
first="${GTALIGN_BACKOFF_SECONDS:-5}" longest=300
[[ $# -gt 0 ]] || {
  echo "watch.sh: no command; usage: watch.sh COMMAND [ARGUMENTS]" >&2
  exit 2
}

child="" stopping="" missed=""
forward() {
  stopping=yes missed=""
  if [[ -n "$child" ]]; then
    kill -s "$1" "$child" 2>/dev/null || true
  else
    missed="$1"
  fi
}
trap 'forward TERM' TERM
trap 'forward INT' INT

# Waits through signals: `wait` returns early when a trap runs.
await() {
  status=0
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do
    status=0
    wait "$child" || status=$?
  done
}

failures=0 pause=$first
while true; do
  began=$SECONDS
  "$@" &
  child=$!
  [[ -z "$missed" ]] || forward "$missed" # a signal that came between the last two lines
  await
  if [[ $status -eq 0 || $status -eq 2 || -n "$stopping" ]]; then
    exit "$status"
  fi
  if ((SECONDS - began >= healthy)); then
    failures=0 pause=$first
  fi
  failures=$((failures + 1))
  if ((failures > max)); then
    echo "watch.sh: exit code $status, $failures failures in a row; giving up" >&2
    exit "$status"
  fi
  echo "watch.sh: exit code $status; starting again in $pause s ($failures of $max)" >&2
  sleep "$pause" &
  child=$!
  wait "$child" || true
  child="" # first of all: a signal from here on is kept for the next start
  [[ -z "$stopping" ]] || exit "$status"
  pause=$((pause * 2 < longest ? pause * 2 : longest))
done
