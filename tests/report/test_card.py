"""`gtalign export`: the model card that a run writes, and the push to a hub (a local one)."""

import json
import re
import shutil
from pathlib import Path

import huggingface_hub
import jax
import numpy as np
import pytest
from hub_server import ME, TOKEN, running
from safetensors.numpy import load_file
from workdirs import make

from gtalign_jax import hub as hubs
from gtalign_jax import models
from gtalign_jax.cli import main as cli
from gtalign_jax.config import Config, PolicyConfig, as_dict, override
from gtalign_jax.data import prompts
from gtalign_jax.models import export, lora
from gtalign_jax.report import card, results
from gtalign_jax.train import checkpoint
from gtalign_jax.train.checkpoint import Checkpoints

# what a config may hold and no card may say
SECRETS = ("/home/bob", "judge.example.com", "BOB_KEY", "bob-secret-deployment", "hunter2")
PRIVATE = [
  "rewards.judge.kind=http", "rewards.judge.base_url=https://judge.example.com/v1",
  "rewards.judge.model=bob-secret-deployment", "rewards.judge.api_key_env=BOB_KEY",
  'rewards.judge.extra_body={"user": "hunter2"}', "data.root=/home/bob/prompts",
]  # fmt: skip


def run_of(workdir, *overrides, model="random:tiny", lora_rank=0):
  """A work directory as a finished run leaves it, with a step of each phase."""
  make(workdir)
  config = Config(model=model, workdir="/home/bob/run", policy=PolicyConfig(lora_rank=lora_rank))
  (workdir / "config.json").write_text(json.dumps(as_dict(override(config, overrides))))
  tiny = models.load(model)
  checkpoint.keep_frame(workdir, tiny.config, tiny.tokenizer, tiny.eos_ids)
  params = tiny.params
  if lora_rank:
    params = lora.init(tiny.config, jax.random.key(0), config.policy)
    params = jax.tree.map(lambda x: x + 0.01, params)
  for phase, step in (("sft", 18), ("grpo", 40)):
    with Checkpoints(workdir / "checkpoints" / phase, keep=1) as checkpoints:
      checkpoints.save(step, {"params": params})
  return workdir


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  return run_of(tmp_path_factory.mktemp("card") / "run", *PRIVATE)


@pytest.fixture
def hub(monkeypatch):
  constants = huggingface_hub.constants
  with running() as server:
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server


def push(workdir, out, *words, name="me/tiny"):
  given = ["--checkpoint", str(workdir), "--out", str(out), "--push", name, "--json", *words]
  return cli.main(["export", *given])


def read(folder):
  """The metadata and the words of the card in a folder."""
  made = huggingface_hub.ModelCard.load(Path(folder) / "README.md")
  return made.data.to_dict(), made.text


def test_the_card_says_what_was_measured_and_nothing_private(workdir, tmp_path, capsys):
  given = ["--checkpoint", str(workdir), "--out", str(tmp_path / "out")]
  assert cli.main(["export", *given]) == 0
  metadata, words = read(tmp_path / "out")
  assert (
    metadata["library_name"] == "transformers" and metadata["pipeline_tag"] == "text-generation"
  )
  assert {"gtalign", "grpo", "arxiv:2510.08872"} <= set(metadata["tags"])
  assert "base_model" not in metadata and "license" not in metadata  # neither is known
  for row in results.grid(results.policies(results.load(workdir)))[1]:
    assert f"| {' | '.join(row)} |" in words
  assert "95 % paired bootstrap interval" in words and "not evaluated" not in words
  for told in ("<payoff>", "gtalign steer", "Answer in exactly four blocks", "answer 0.5",
    "a judge that is a model", "40 steps of GRPO"):  # fmt: skip
    assert told in words, told
  everything = (tmp_path / "out" / "README.md").read_text() + capsys.readouterr().out
  assert not [secret for secret in (*SECRETS, str(workdir)) if secret in everything]


@pytest.mark.parametrize(
  "step, told",
  [
    ("sft", "18 updates of supervised warm start |"),
    ("7", "row GRPO is of update 40, the weights here are of update 7"),
  ],
)
def test_the_card_is_of_the_step_that_is_exported(workdir, tmp_path, step, told):
  if step == "7":
    workdir = shutil.copytree(workdir, tmp_path / "run")
    folder = workdir / "checkpoints" / "grpo"
    (folder / "40").rename(folder / "7")
  given = ["--checkpoint", str(workdir), "--out", str(tmp_path / "out"), "--step", step]
  assert cli.main(["export", *given]) == 0
  metadata, words = read(tmp_path / "out")
  assert told in words and ("grpo" in metadata["tags"]) == (step == "7")


def test_base_and_licence_as_far_as_they_are_known(tmp_path):
  report = results.load(make(tmp_path / "run"))
  policy = card.Policy("grpo", 40)

  def said(model, **data):
    report.config.update(model=model, data={**report.config["data"], **data})
    (tmp_path / "README.md").write_text(card.text(report, policy))
    return read(tmp_path)[0]

  made = said("Qwen/Qwen2.5-3B-Instruct", root="some/prompts")
  assert made["base_model"] == "Qwen/Qwen2.5-3B-Instruct" and made["license"] == "other"
  assert made["license_name"] == "qwen-research" and made["datasets"] == ["some/prompts"]
  # a folder of ours passes on what it came from
  (tmp_path / "sft").mkdir()
  (tmp_path / "README.md").rename(tmp_path / "sft" / "README.md")
  again = said(str(tmp_path / "sft"), root=str(tmp_path))
  assert again["base_model"] == made["base_model"] and again["license_name"] == "qwen-research"
  assert "datasets" not in again
  for local in ("runs/sft", "/home/bob/x", "./a/b", "a.gguf", ""):
    (tmp_path / "runs" / "sft").mkdir(parents=True, exist_ok=True)
    assert "base_model" not in said(local)


@pytest.mark.parametrize(
  "form, there, absent",
  [
    ("game", ["<analyze>", "## Steering"], ["goes to the answer"]),
    ("think", ["no payoff matrix", "`<thinking>…</thinking><response>…"], ["<payoff>", "Steering"]),
    ("none", ["no payoff matrix", "goes to the answer"], ["<payoff>", "<thinking>", "Steering"]),
  ],
)
def test_the_card_knows_the_form_of_the_chain(tmp_path, form, there, absent):
  report = results.load(make(tmp_path / "run"))
  report.config["chain"] = {"form": form}
  words = card.text(report, card.Policy("grpo", 40))
  assert prompts.template_text("compact", form) in words
  assert not [each for each in there if each not in words]
  assert not [each for each in absent if each in words]


def test_odd_sources_and_templates_leave_a_sound_card(tmp_path):
  made = make(tmp_path / "run", evil="|x](y)\n---\n# no <b>")
  (made / "metrics.jsonl").unlink()
  report = results.load(made)
  report.config["data"]["template"] = "released"
  (tmp_path / "README.md").write_text(card.text(report, card.Policy("best", 3)))
  _, words = read(tmp_path)
  assert "\n---" not in words and "<b>" not in words.replace("\\<b\\>", "")
  assert "hold their own instructions" in words
  empty = report._replace(rows={}, runs={}, compared=None, config={})
  assert "Nothing was measured" in card.text(empty, card.Policy("sft", 1))


def test_adapters_alone(tmp_path):
  workdir = run_of(tmp_path / "run", lora_rank=2)
  given = ["--checkpoint", str(workdir), "--out", str(tmp_path / "out"), "--adapters"]
  assert cli.main(["export", *given]) == 0
  config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
  assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (2, 16.0, False)
  assert config["base_model_name_or_path"] is None and "q_proj" in config["target_modules"]
  metadata, words = read(tmp_path / "out")
  assert metadata["library_name"] == "peft" and "PeftModel" in words and "alone" in words
  # W + alpha/r B A, as PEFT computes it, is what the merged export holds
  tiny, policy = models.load("random:tiny"), PolicyConfig(lora_rank=2)
  adapters = jax.tree.map(lambda x: x + 0.01, lora.init(tiny.config, jax.random.key(0), policy))
  start, whole = (
    load_file(
      export.save(tiny.config, params, tiny.tokenizer, tmp_path / name, eos_ids=(2,))
      / "model.safetensors"
    )
    for name, params in (("a", tiny.params), ("b", lora.merge(tiny.params, adapters, policy)))
  )
  parts = load_file(tmp_path / "out" / "adapter_model.safetensors")
  changed = {name for name, each in whole.items() if not np.array_equal(each, start[name])}
  stems = {re.sub(r"\.lora_[AB]\.weight$", "", name) for name in parts}
  assert {f"base_model.model.{name.removesuffix('.weight')}" for name in changed} == stems
  for stem in stems:
    name = f"{stem.removeprefix('base_model.model.')}.weight"
    change = 16.0 / 2 * parts[f"{stem}.lora_B.weight"] @ parts[f"{stem}.lora_A.weight"]
    np.testing.assert_allclose(whole[name], start[name] + change, atol=1e-5)


def test_a_push_is_one_commit_of_all_files(workdir, hub, tmp_path, capsys):
  hub.repos["me/tiny"] = {"model-00001-of-00002.safetensors": b"old", "notes.md": b"mine"}
  assert push(workdir, tmp_path / "out") == 0
  said = json.loads(capsys.readouterr().out.splitlines()[-1])["push"]
  files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
  assert hub.repos["me/tiny"] == files | {"notes.md": b"mine"} and hub.commits == 1
  assert said["files"] == {name: len(data) for name, data in files.items()}
  assert said["commit"].endswith("/me/tiny/commit/1")
  for name, public in (("lab/new", False), ("me/open", True)):
    hubs.push(hubs.destination(name), tmp_path / "out", public)
    assert hub.private[name] != public and hub.repos[name].keys() == files.keys()


def test_a_dry_run_asks_nobody_and_needs_no_token(workdir, hub, tmp_path, monkeypatch, capsys):
  monkeypatch.delenv("HF_TOKEN")
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  given = ["--checkpoint", str(workdir), "--out", str(tmp_path / "out"), "--push", "me/tiny"]
  assert cli.main(["export", *given, "--dry-run"]) == 0
  said = capsys.readouterr().out
  assert "would push to me/tiny (private where it is new):" in said and "README.md" in said
  assert hub.asked == []


def nothing(hub):
  pass


@pytest.mark.parametrize(
  "name, environment, fault, code, told",
  [
    ("tiny", {}, nothing, 2, "must be OWNER/NAME of a hub repository (it has no owner)"),
    ("me/a--b", {}, nothing, 2, "must be OWNER/NAME of a hub repository (Cannot have"),
    ("me/tiny", {"HF_TOKEN": ""}, nothing, 2, "HF_TOKEN is not set"),
    ("me/tiny", {"HF_TOKEN": "hf_s p\u00e9cial"}, nothing, 2, "characters that no token has"),
    ("me/tiny", {"HF_TOKEN": "hf_other"}, nothing, 2, "does not know the token of HF_TOKEN"),
    ("me/tiny", {"HF_HUB_OFFLINE": "1"}, nothing, 2, "HF_HUB_OFFLINE is set; unset it"),
    ("you/tiny", {}, nothing, 2, "that of 'me', who may push to me/… or Lab/…"),
    ("me/tiny", {}, lambda hub: setattr(hub, "me", ME | {"auth": {"accessToken": {"role": "read"}}}), 2, "may only read"),
    ("me/tiny", {}, lambda hub: (hub.shutdown(), hub.server_close()), 1, "Connection refused; nothing was pushed"),
    ("me/tiny", {}, lambda hub: hub.broken.update({"whoami": 500}), 1, "answered 500"),
    ("me/tiny", {}, lambda hub: hub.broken.update({"create": 403}), 2, "may not write there"),
    ("me/tiny", {}, lambda hub: hub.broken.update({"/lfs/": 400}), 1, "nothing was pushed"),
    ("me/tiny", {}, lambda hub: hub.broken.update({"/commit/": 413}), 1, "answered 413"),
  ],
)  # fmt: skip
def test_failures_are_one_line_and_push_nothing(
  workdir, hub, tmp_path, monkeypatch, capsys, name, environment, fault, code, told
):
  for variable, value in environment.items():
    monkeypatch.setenv(variable, value)
  fault(hub)
  late = bool({"create", "/lfs/", "/commit/"} & hub.broken.keys())
  assert push(workdir, tmp_path / "out", name=name) == code
  said = capsys.readouterr()
  lines = [line for line in said.err.splitlines() if line.startswith("gtalign: ")]
  assert len(lines) == 1 and told in lines[0] and "Traceback" not in said.err
  assert not re.search(r"hf_(secret|s |other)", said.out + said.err)
  assert hub.commits == 0 and not hub.repos.get(name)
  # what is wrong is found before any work, or leaves what was exported
  assert (tmp_path / "out" / "README.md").exists() == late


def test_flags_without_what_they_need(workdir, tmp_path, capsys):
  given = ["export", "--checkpoint", str(workdir), "--out", str(tmp_path / "out")]
  for words, told in (
    (["--public"], "--public says how to --push"),
    (["--adapters"], "--adapters"),
  ):
    assert cli.main([*given, *words]) == 2
    assert told in capsys.readouterr().err
