#!/usr/bin/env bash
# Trains on a TPU slice that is queued for, and queues again when a spot slice is taken away: the
# run goes on from its last checkpoint until it is done.
#
#   TPU=my-slice ZONE=us-west4-a ACCELERATOR=v5litepod-16 \
#     ./launch/queued_resource.sh configs/devices16.py workdir=/mnt/shared/run
#
# Same settings as tpu_vm.sh; PROVISIONING is --spot (default), --reserved, --guaranteed or empty.
# The slice is deleted when the run is done, its input is bad, or it failed GTALIGN_MAX_RESTARTS (8)
# times in a row on a healthy slice.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

[[ -n "${TPU:-}" && -n "${ZONE:-}" && -n "${ACCELERATOR:-}" ]] ||
  die "set TPU (name of the slice), ZONE and ACCELERATOR, e.g. v5litepod-16"
[[ $# -gt 0 ]] || die "no config; usage: TPU=… ZONE=… ACCELERATOR=… $0 CONFIG.py [key=value …]"

PROVISIONING="${PROVISIONING---spot}"
POLL="${GTALIGN_POLL_SECONDS:-30}" MAX="${GTALIGN_MAX_RESTARTS:-8}"
queue() { gcloud compute tpus queued-resources "$1" "$TPU" --zone "$ZONE" "${@:2}"; }
state() { queue describe --format "value(state.state)" 2>/dev/null || echo ABSENT; }
release() { queue delete --quiet --force || true; }

failures=0
while true; do
  case "$(state)" in
    ABSENT)
      say "queueing for $ACCELERATOR as $TPU"
      queue create --node-id "$TPU" --accelerator-type "$ACCELERATOR" \
        --runtime-version "$(runtime_version "$ACCELERATOR")" ${PROVISIONING:+"$PROVISIONING"}
      ;;
    ACTIVE)
      status=0
      "$ROOT/launch/tpu_vm.sh" "$@" || status=$?
      failures=$((failures + 1))
      # A slice that is taken away fails once and is no longer ACTIVE; a broken run fails on and on.
      if [[ $status -eq 0 || $status -eq 2 || $failures -gt $MAX ]]; then
        release
        exit "$status"
      fi
      say "exit code $status on $TPU ($failures of $MAX in a row); looking at the slice in $POLL s"
      sleep "$POLL"
      ;;
    FAILED | SUSPENDED | SUSPENDING)
      say "slice $TPU was taken away; queueing again"
      failures=0
      release
      ;;
    *) sleep "$POLL" ;; # accepted, waiting, provisioning, deleting
  esac
done
