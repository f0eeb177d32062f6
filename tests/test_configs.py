"""Every config that is shipped, run for two steps on a tiny model over the tests' 8 devices.

Lengths and batches are made small; the algorithm, the reward, the judge, adapters and the axes of
the mesh are the config's own. A config that names no mesh takes one of the devices, as on the
machine of one chip that it is for: eight compile for far longer.
"""

import json
import math
import re
from pathlib import Path

import jax
import judge_servers
import pytest

from gtalign_jax.cli.main import main
from gtalign_jax.config import load
from gtalign_jax.data import sources
from gtalign_jax.models import architecture
from gtalign_jax.parallel import mesh
from gtalign_jax.rewards import chain
from gtalign_jax.synthesize import labels
from gtalign_jax.train import preflight, setup

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(
  path.relative_to(ROOT / "configs").with_suffix("").as_posix()
  for path in (ROOT / "configs").rglob("*.py")
  if path.name != "__init__.py"
)
# models of billions: their programs are compiled by `gtalign plan`, which their header names
LARGE = [name for name in CONFIGS if "--arch" in (ROOT / "configs" / f"{name}.py").read_text()]
CHAINS = ROOT / "tests" / "train" / "short_chains.jsonl"
SMALL = (
  "model=random:tiny",
  f"data.root={CHAINS}",
  "data.template=released",
  "data.max_prompt_tokens=64",
  "rollout.max_new_tokens=24",
  "rollout.prompt_buckets=(64,)",
  "rollout.prompts_at_once=0",
  "rollout.segment=24",
  "grpo.steps=2",
  "grpo.prompts_per_step=8",
  "grpo.micro_prompts=8",
  "grpo.length_buckets=(24,)",
  "sft.steps=1",
  "sft.batch_size=8",
  "sft.micro_batch=8",
  "sft.max_tokens=96",
  "sft.length_bucket=96",
  f"sft.data={CHAINS}",
  "eval.every=0",
  "eval.prompts=8",
  "eval.group_size=2",
  "eval.bootstrap=100",
)
MORE = {
  # bytes are tokens, and the prompts say more
  "condition": (
    "data.max_prompt_tokens=192",
    "rollout.prompt_buckets=(192,)",
    "sft.max_tokens=224",
  ),
  # mesh.tensor fits the tiny model's 2 key-value heads; of fsdp over 16 devices, half is left on 8
  "qwen3b_v5e16": ("mesh.fsdp=4",),
  # its source has no chains that short
  "concierge": ("data.sources=()", "conversation.max_context_tokens=96"),
  # nor have those chains payoffs
  "steering": (
    *("data.sources=()", "conversation.max_context_tokens=96"),
    *("rollout.prompt_buckets=(64,96)", "eval.intervene_prompts=0"),
  ),
  # long enough to write <response>, without which nothing is put to a judge
  "http_judge": ("sft.steps=60", "sft.optim.lr=2e-2"),
  "conversations_http": (
    *("sft.steps=60", "sft.optim.lr=2e-2", "conversation.max_context_tokens=128"),
    "conversation.context_buckets=(128,)",
  ),
}
ENDPOINTS = ("http_judge", "conversations_http")


pytestmark = pytest.mark.usefixtures("shared_programs")
WIDE = ("devices8", "devices16", "qwen3b_v5e16")  # what they show is how batches split


@pytest.fixture
def one_device(monkeypatch):
  """The first of the tests' devices, as if there were no more."""
  make = mesh.make
  monkeypatch.setattr(mesh, "make", lambda config: make(config, jax.devices()[:1]))


def train(name, workdir, *more):
  """Two steps of a config; its GRPO rows of metrics.jsonl."""
  path = ROOT / "configs" / f"{name}.py"
  own = [] if load(path).sft.steps else ["sft.steps=0"]
  if name.startswith("ablations/"):
    # the warm start and the arithmetic are the quickstart's, which has a test of its own; f32
    # without recomputation compiles in half the time
    own = ["sft.steps=0", "policy.dtype=float32", "policy.remat=none"]
  if "sft.steps=0" in own:  # what sets up a warm start has no effect without one
    small = [each for each in SMALL if not each.startswith("sft.")]
  else:
    small = [*SMALL]
  given = [*small, *own, *MORE.get(name, ()), *more, f"workdir={workdir}"]
  assert main(["train", str(path), *given]) == 0
  assert (workdir / "DONE").exists()
  rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return [row for row in rows if row["phase"] == "grpo"]


def test_all_are_found():
  assert {"smoke", "quickstart", "lora", "gpu", "devices8", "ablations/rloo"} <= set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_each_says_its_command_and_has_a_work_directory_of_its_own(name):
  path = ROOT / "configs" / f"{name}.py"
  assert f"configs/{name}.py" in path.read_text().split('"""')[1]
  assert load(path).workdir == f"runs/{Path(name).name}"


@pytest.mark.parametrize("name", CONFIGS)
def test_the_prompts_of_each_have_tasks_and_chains(name):
  """Whatever the mode of the reward: `test_two_steps` has prompts of one source, with chains."""
  config = load(ROOT / "configs" / f"{name}.py")
  records = {split: sources.load(config.data, split) for split in ("train", "test")}
  preflight.check_records(records, config.rewards)
  for record in records["train"][:: max(len(records["train"]) // 12, 1)]:
    text = labels.chain(record, config.seed, config)
    assert chain.parse(text, form=config.chain.form).format


@pytest.mark.parametrize("name", LARGE)
def test_large_ones_go_together_with_their_slice(name):
  """Model, mesh and batches divide each other, as the command in the header has them."""
  header = (ROOT / "configs" / f"{name}.py").read_text().split('"""')[1]
  command = re.search(r"gtalign plan ((?:.*\\\n)*.*)", header)[1].replace("\\\n", " ")
  path, *rest = command.split()
  flags = dict(zip(rest[:4:2], rest[1:4:2]))
  assert path == f"configs/{name}.py" and set(flags) == {"--topology", "--arch"}
  config = load(ROOT / path, [each.replace("'", "") for each in rest[4:]])
  arch = architecture.read("", str(ROOT / flags["--arch"]))
  devices = math.prod(map(int, flags["--topology"].partition(":")[2].split("x")))
  described = jax.sharding.AbstractMesh(mesh.sizes(config.mesh, devices), mesh.AXES)
  setup.check_mesh(config, arch, described)
  assert arch.num_layers > 20 and config.rollout.max_new_tokens >= 1024


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", [name for name in CONFIGS if name not in (*ENDPOINTS, *LARGE) or name in WIDE]
)
def test_two_steps(tmp_path, monkeypatch, request, name):
  if name not in WIDE:
    request.getfixturevalue("one_device")
  monkeypatch.chdir(tmp_path)  # a config finds the one that it varies from anywhere
  rows = train(name, tmp_path / "run")
  assert len(rows) == 2
  for row in rows:
    assert math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])
  if load(ROOT / "configs" / f"{name}.py").grpo.inner_epochs > 1:
    # with one update per rollout every ratio is 1, and all losses are the same
    assert rows[-1]["ratio/max"] > 1


@pytest.mark.slow
def test_two_steps_with_a_model_as_judge(tmp_path, one_device):
  with judge_servers.serve(lambda messages: "VERDICT: 1") as server:
    rows = train("http_judge", tmp_path / "run", f"rewards.judge.base_url={server.url}")
  assert len(rows) == 2 and all(row["judge/invalid_frac"] == 0 for row in rows)
  assert {request["model"] for request in server.requests} == {"Qwen/Qwen2.5-7B-Instruct"}


@pytest.mark.slow
def test_two_steps_with_models_as_user_and_judge(tmp_path, one_device):
  chains = str(CHAINS.with_name("talk_chains.jsonl"))
  with judge_servers.serve(lambda messages: "VERDICT: 1") as server:
    urls = [
      f"{section}.base_url={server.url}" for section in ("rewards.judge", "conversation.user")
    ]
    given = (*urls, f"data.root={chains}", f"sft.data={chains}")
    rows = train("conversations_http", tmp_path / "run", *given)
  assert len(rows) == 2 and all(row["judge/invalid_frac"] == 0 for row in rows)
  assert any(row["conversation/turns/mean"] > 1 for row in rows)
