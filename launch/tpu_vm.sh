#!/usr/bin/env bash
# Trains on a TPU slice: makes it if it is not there, copies this clone to every worker, installs,
# and runs the same command on all of them until the run is done.
#
#   TPU=my-slice ZONE=us-west4-a ACCELERATOR=v5litepod-16 \
#     ./launch/tpu_vm.sh configs/devices16.py workdir=/mnt/shared/run
#
# Batches must split over all chips: configs/devices16.py does over 16, configs/devices8.py over 8.
# Needs gcloud with a project set. On slices of several hosts `workdir` must be a folder that all
# workers share (Filestore or another NFS mount: STARTUP, a shell command, is run on each worker
# first and may mount it). The slice is left running; delete it with
# `gcloud compute tpus tpu-vm delete`. RUNTIME overrides the runtime version.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

[[ -n "${TPU:-}" && -n "${ZONE:-}" ]] || die "set TPU (name of the slice) and ZONE"
[[ $# -gt 0 ]] || die "no config; usage: TPU=… ZONE=… ACCELERATOR=… $0 CONFIG.py [key=value …]"

on_all_workers() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all --command "$1"
}

if ! gcloud compute tpus tpu-vm describe "$TPU" --zone "$ZONE" >/dev/null 2>&1; then
  [[ -n "${ACCELERATOR:-}" ]] || die "slice $TPU is not there; set ACCELERATOR, e.g. v5litepod-16"
  gcloud compute tpus tpu-vm create "$TPU" --zone "$ZONE" --accelerator-type "$ACCELERATOR" \
    --version "$(runtime_version "$ACCELERATOR")"
fi

bundle="$(mktemp -d)/gtalign.tar.gz"
trap 'rm -rf "$(dirname "$bundle")"' EXIT
git archive --format=tar.gz -o "$bundle" HEAD
gcloud compute tpus tpu-vm scp "$bundle" "$TPU:gtalign.tar.gz" --zone "$ZONE" --worker=all

# The images carry Python 3.10; uv brings a newer one. An earlier attempt's processes would hold the
# chips, so they are ended first.
printf -v train '%q ' "$@"
on_all_workers "set -e
${STARTUP:-true}
mkdir -p gtalign && tar -xzf gtalign.tar.gz -C gtalign && cd gtalign
command -v uv >/dev/null || python3 -m pip install --quiet --user uv
export PATH=\"\$HOME/.local/bin:\$PATH\"
source launch/env.sh
make_venv .venv
install_package .venv tpu
if [ -f run.pid ] && pkill --pidfile run.pid --full launch/watch.sh; then sleep 10; fi
echo \$\$ >run.pid
GTALIGN_DISTRIBUTED=auto exec ./launch/watch.sh .venv/bin/gtalign train $train"
