"""`gtalign plan` on virtual CPU devices, with the tiny random model."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from gtalign_jax.cli import main as cli
from gtalign_jax.config import (
  Config,
  DataConfig,
  EvalConfig,
  GRPOConfig,
  MeshConfig,
  PolicyConfig,
  RolloutConfig,
  SFTConfig,
  vary,
)
from gtalign_jax.errors import BadInput
from gtalign_jax.models import architecture, decoder
from gtalign_jax.models.variants import TINY
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel import sharding, topology
from gtalign_jax.parallel.programs import Program
from gtalign_jax.train import plan, programs, setup
from gtalign_jax.train import state as states

ROOT = Path(__file__).parents[2]
GIB = 1 << 30


def config(**policy):
  return Config(
    model="random:tiny",
    policy=PolicyConfig(**policy),
    data=DataConfig(max_prompt_tokens=32),
    rollout=RolloutConfig(group_size=2, max_new_tokens=16, prompt_buckets=(32,), segment=8),
    grpo=GRPOConfig(
      advantage="gae", prompts_per_step=16, minibatch_prompts=8, micro_prompts=4, kl_coef=0.01
    ),
    mesh=MeshConfig(data=2, fsdp=2, tensor=2),
  )


@pytest.fixture(scope="module")
def planned():
  return plan.plan(config(), TINY, topology.describe("cpu:8"))


def test_every_program_of_the_run(planned):
  names = [
    *("decode_params", "prefill", "layers", "decode"),
    *("eval_prefill", "eval_layers", "eval_decode"),
    *("take_to_score", "no_scores", "score_policy", "score_reference", "score_values", "put"),
    *("advantages", "take"),
    *(f"critic_{name}" for name in ("zero_gradients", "accumulate", "add_metrics", "apply")),
    *("zero_gradients", "accumulate", "add_metrics", "apply"),
  ]
  assert list(planned["programs"]) == names
  assert planned["fits"] and planned["hbm_gib"] is None and planned["devices"] == 8
  for each in planned["programs"].values():
    parts = each["argument_gib"] + each["output_gib"] + each["temp_gib"] - each["alias_gib"]
    assert each["total_gib"] == pytest.approx(parts) and each["compile_s"] > 0
  peak = max(each["total_gib"] + each["resident_gib"] for each in planned["programs"].values())
  assert planned["peak_gib"] == peak


def test_state_is_split_and_updated_in_place(planned):
  sizes = [x.size * 4 for x in jax.tree.leaves(decoder.abstract(TINY))]
  apply = planned["programs"]["apply"]
  # parameters, two moments and gradients, most of it split over fsdp and tensor, none of it whole
  assert apply["argument_gib"] * GIB < 4 * sum(sizes) / 3
  assert apply["alias_gib"] * GIB > 3 * sum(sizes) / 4 * 0.99


def test_counted_bytes_are_the_compilers(planned):
  found, params = setup.abstract(config(), TINY, meshes.make(config().mesh, jax.devices()[:8]))
  state = plan.train_state(found, params, states.make_optimizers(config()))
  for name, owner in (("apply", state._replace(critic=None)), ("critic_apply", state.critic)):
    arguments = plan.device_bytes((owner, owner.params))  # and gradients
    assert arguments == pytest.approx(planned["programs"][name]["argument_gib"] * GIB, rel=1e-3)


def test_fsdp_gathers_for_decoding_once(planned):
  assert "all-gather" in planned["programs"]["decode_params"]["collectives"]
  decode = planned["programs"]["decode"]["collectives"]
  gathered = decode.get("all-gather", {"bytes": 0})["bytes"]
  assert gathered < sum(x.size for x in jax.tree.leaves(decoder.abstract(TINY)))


def test_flops_follow_the_work(planned):
  programs = planned["programs"]
  assert programs["accumulate"]["gflops"] == pytest.approx(
    3 * programs["score_reference"]["gflops"]
  )
  assert programs["prefill"]["gflops"] > 0 and programs["apply"]["gflops"] == 0


def test_a_program_of_every_segment_is_compiled_once(caplog):
  """Without refills a table yields `decode` once a segment: 64 of them at 8,192 tokens."""
  mesh = meshes.make(MeshConfig(), jax.devices()[:1])
  x = jax.ShapeDtypeStruct((4,), "float32", sharding=sharding.replicated(mesh))
  program = Program("double", lambda x: 2 * x, (x,))
  planned, made = {}, {}
  with caplog.at_level("INFO", "gtalign_jax"):
    shapes = [plan._once(planned, made, mesh, program) for _ in range(2)]
  assert shapes[0] is shapes[1] and list(planned) == [("double",)] and len(caplog.records) == 1


def test_adapters_shrink_the_optimizer():
  mesh = meshes.make(config().mesh, jax.devices()[:8])
  (full, whole), (small, adapters) = (
    setup.abstract(config(lora_rank=rank), TINY, mesh) for rank in (0, 2)
  )
  sizes = [
    plan.device_bytes(plan.train_state(found, params, states.make_optimizers(config())))
    for found, params in ((small, adapters), (full, whole))
  ]
  assert sizes[0] < sizes[1] / 4
  assert plan.device_bytes(small.fixed.frozen) == plan.device_bytes(whole)


def test_rows_that_do_not_split_over_the_mesh():
  bad = dataclasses.replace(config(), grpo=GRPOConfig(prompts_per_step=6))
  with pytest.raises(BadInput, match=r"grpo.prompts_per_step=6 does not split over .*=4"):
    plan.plan(bad, TINY, topology.describe("cpu:8"))
  bad = dataclasses.replace(config(), sft=SFTConfig(steps=1, micro_batch=2))
  with pytest.raises(BadInput, match=r"sft.micro_batch=2 does not split over .*=4"):
    plan.plan(bad, TINY, topology.describe("cpu:8"))
  # smaller than the devices that share its rows, a slice would be computed whole by each of them
  for micro in (1, 2):
    bad = dataclasses.replace(config(), grpo=GRPOConfig(prompts_per_step=8, micro_prompts=micro))
    said = (
      rf"grpo.micro_prompts={micro} does not split over .*=4; use a multiple of 4, or 0 for all"
    )
    with pytest.raises(BadInput, match=said):
      plan.plan(bad, TINY, topology.describe("cpu:8"))


def test_the_warm_start_is_taken_at_temperature_1():
  """Chains are no samples of a rollout: trained for 0.7, the policy would be exported as if for 1."""
  cool = dataclasses.replace(config().rollout, temperature=0.7)
  mesh = meshes.make(config().mesh, topology.describe("cpu:8").devices)
  found, _ = setup.abstract(dataclasses.replace(config(), rollout=cool), TINY, mesh)
  assert programs.objective(found, None).temperature == 1.0
  assert programs.objective(found, config().grpo).temperature == 0.7


def test_mesh_that_does_not_divide_the_model():
  bad = Config(model="random:tiny", mesh=MeshConfig(tensor=4), grpo=GRPOConfig(prompts_per_step=8))
  with pytest.raises(BadInput, match=r"mesh.tensor=4 does not divide num_kv_heads=2"):
    plan.plan(bad, TINY, topology.describe("cpu:8"))


@pytest.mark.parametrize(
  "name", ["cpu", "cpu:0", "cpu:x", "cpu:4096", "v9:2x2", "v5e:4", "v5p:4x4"]
)
def test_topologies_are_checked(name):
  jax.devices()  # a process that has its devices cannot have more
  with pytest.raises(BadInput, match=f"--topology {name}: "):
    topology.describe(name)


def test_architecture_without_weights(tmp_path):
  arch = architecture.read("no/such-model", str(ROOT / "configs/arch/qwen2.5-3b.json"))
  params = sum(x.size for x in jax.tree.leaves(decoder.abstract(arch)))
  assert params == 3_085_938_688  # the model card's 3.09B
  (tmp_path / "config.json").write_text((ROOT / "configs/arch/qwen2.5-3b.json").read_text())
  assert architecture.read(str(tmp_path)) == arch
  with pytest.raises(BadInput, match="--arch"):
    architecture.read("no/such-model")
  (tmp_path / "config.json").write_text("[]")
  with pytest.raises(BadInput, match="expected a JSON object, got list"):
    architecture.read(str(tmp_path))


def test_command(capsys):
  code = cli.main(
    [
      *("plan", str(ROOT / "configs/smoke.py"), "--topology", "cpu:1", "--json"),
      "sft.steps=0",
      "grpo.kl_coef=0",
      "policy.lora_rank=2",
      "data.max_prompt_tokens=32",
      "rollout.prompt_buckets=(32,)",
      "rollout.max_new_tokens=8",
    ]
  )
  lines = capsys.readouterr().out.splitlines()
  assert code == 0 and "fits" in lines[-2]
  assert list(json.loads(lines[-1])["programs"]) == [
    *("decode_params", "prefill", "layers", "decode"),
    *("eval_prefill", "eval_layers", "eval_decode"),
    *("advantages", "take", "zero_gradients", "accumulate", "add_metrics", "apply"),
  ]


def test_the_warm_start_is_planned_too():
  config_ = dataclasses.replace(
    config(), grpo=GRPOConfig(steps=0), sft=SFTConfig(steps=1, batch_size=8, max_tokens=64)
  )
  names = list(plan.plan(config_, TINY, topology.describe("cpu:8"), ("sft",))["programs"])
  assert names == ["sft_zero_gradients", "sft_accumulate", "sft_add_metrics", "sft_apply"]


@pytest.mark.slow
def test_edited_openings_are_planned_too():
  config_ = dataclasses.replace(config(), eval=EvalConfig(intervene_prompts=4))
  found = plan.plan(config_, TINY, topology.describe("cpu:8"), ("evaluation",))["programs"]
  heads = [name for name in found if name.startswith("eval_head_")]
  # a row for each of 4 x 2 x 3 openings, longer than a prompt by the budget
  assert heads == [f"eval_head_{name}" for name in ("prefill", "layers", "decode")]


@pytest.mark.slow
def test_intervened_rollouts_are_planned_too():
  changes = {"rollout.intervene": 0.25, "rollout.prompt_buckets": (32, 48)}
  found = plan.plan(vary(config(), changes), TINY, topology.describe("cpu:8"), ("rollout",))
  openings = [name for name in found["programs"] if name.startswith("opening_")]
  assert openings == [f"opening_{name}" for name in ("prefill", "layers", "decode")]


def test_command_in_a_fresh_process_makes_its_devices():
  command = [sys.executable, "-m", "gtalign_jax", "plan", "configs/smoke.py", "--topology", "cpu:3"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  # three devices were made; the configuration does not split over them
  assert done.returncode == 2
  assert "does not split over mesh.data*mesh.fsdp=3" in done.stderr
