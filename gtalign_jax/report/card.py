"""The model card of an exported policy, written from its run: README.md with the hub's metadata.

It is made to be published. Of the config it says what is named here and nothing else: no path, no
address of an endpoint, no name of a variable that holds a key.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import jinja2

from gtalign_jax import __version__
from gtalign_jax.data import prompts
from gtalign_jax.report import results
from gtalign_jax.report.labels import label
from gtalign_jax.report.page import commit
from gtalign_jax.report.results import Report, Row
from gtalign_jax.rewards.tasks import accuracy
from gtalign_jax.types import GAME

# What the base models of the configs say of themselves; of others, a folder's own card is asked.
_LICENCES: dict[str, dict[str, str]] = {
  "HuggingFaceTB/SmolLM2-135M-Instruct": {"license": "apache-2.0"},
  "Qwen/Qwen2.5-3B-Instruct": {"license": "other", "license_name": "qwen-research"},
  "Qwen/Qwen3-4B": {"license": "apache-2.0"},
  "meta-llama/Llama-3.2-3B-Instruct": {"license": "llama3.2"},
  "google/gemma-3-4b-it": {"license": "gemma"},
}
_TAGS = ("gtalign", "gtalign_jax", "jax", "reinforcement-learning", "conversational")
_MARKS = str.maketrans({each: f"\\{each}" for each in "\\`*_[]<>|#"})


class Policy(NamedTuple):
  """Which policy of a run is exported. phase: sft, grpo or best; adapters: without their base."""

  phase: str
  step: int
  adapters: bool = False


def text(report: Report, policy: Policy, repository: str = "") -> str:
  """The card. repository: OWNER/NAME that the policy is pushed to, "" where it is not."""
  source = (Path(__file__).parent / "card.md").read_text("utf-8")
  page = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(source)
  return page.render(_facts(report, policy, repository)).rstrip() + "\n"


def base(report: Report) -> str:
  """The hub id of a run's model, or of what a local folder was made of; "" where none is known."""
  model = report.config.get("model", "")
  return model if _on_hub(model, report.workdir) else _own_card(model).get("base_model", "")


def _facts(report: Report, policy: Policy, repository: str) -> dict[str, Any]:
  """What the template shows, by the names that it has there."""
  config = report.config
  section = {key: config.get(key) or {} for key in ("data", "rewards", "rollout", "chain")}
  found, form = base(report), section["chain"].get("form", GAME)
  rewards, (columns, rows) = section["rewards"], results.grid(results.policies(report))
  return {
    "metadata": _metadata(report, policy),
    "title": repository.partition("/")[2] or "A GTAlign policy",
    "repository": repository or "PATH",
    "subject": f"[{found}](https://huggingface.co/{found})" if found else "A language model",
    "form": form,
    "facts": _table(report, policy),
    "columns": columns,
    "rows": [[_plain(each) for each in row] for row in rows],
    "differences": [_plain(each.words) for each in results.differences(report)],
    "caveat": _caveat(report, policy),
    **_asked(section["data"], form),
    "base": found,
    "adapters": policy.adapters,
    "budget": section["rollout"].get("max_new_tokens", 512),
    "temperature": section["rollout"].get("temperature") or 1.0,
    "prompts": _prompts(report),
    "condition": _CONDITIONS.get(section["data"].get("condition", "none"), ""),
    "reward": rewards.get("welfare") or rewards.get("variant", "?"),
    "mode": rewards.get("mode", "?"),
    "weights": {side: _weights(rewards, f"{side}_") for side in ("user", "llm")},
    "limits": _limits(report),
  }


_CONDITIONS = {"alpha": "how much the user's utility counts", "pricing": "what a reply costs"}


def _metadata(report: Report, policy: Policy) -> str:
  """The YAML between the two lines of dashes."""
  found, root = base(report), (report.config.get("data") or {}).get("root", "")
  kind = ["lora"] if policy.adapters else []
  more: Row = _licence(report)
  if found:
    more["base_model_relation"] = "adapter" if policy.adapters else "finetune"
  data = huggingface_hub.ModelCardData(
    library_name="peft" if policy.adapters else "transformers",
    base_model=found or None,
    pipeline_tag="text-generation",
    tags=[*_TAGS, *(["grpo"] if policy.phase != "sft" else []), *kind, "arxiv:2510.08872"],
    datasets=[root] if _on_hub(root, report.workdir) else None,
    **more,
  )
  return data.to_yaml().strip()


def _licence(report: Report) -> Row:
  """The keys of the metadata that name the licence: that of the base holds for what came of it."""
  # a folder of ours says what its own base said
  own = _own_card(report.config.get("model", ""))
  said = _LICENCES.get(base(report), own)
  return {key: said[key] for key in ("license", "license_name") if key in said}


def _own_card(model: str) -> dict[str, str]:
  """What the card in a model's folder says in single words; {} where there is none."""
  path = Path(model).expanduser() / "README.md"
  try:
    said = huggingface_hub.ModelCard.load(path).data.to_dict() if path.is_file() else {}
  except Exception:  # whatever somebody wrote there: a card without it is a card
    return {}
  return {key: each for key, each in said.items() if isinstance(each, str)}


def _on_hub(name: str, workdir: Path) -> bool:
  """Whether a name is a hub id, and not a folder beside the run or its command."""
  if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
    return False
  return not any((place / name).exists() for place in (Path(), *workdir.resolve().parents))


def _table(report: Report, policy: Policy) -> list[tuple[str, str]]:
  """(key, value) of what the policy is made of."""
  config, found = report.config, base(report)
  grpo, group = config.get("grpo") or {}, (config.get("rollout") or {}).get("group_size", "?")
  warm = policy.step if policy.phase == "sft" else (config.get("sft") or {}).get("steps", 0)
  made = [f"{warm} updates of supervised warm start"] if warm else []
  if policy.phase != "sft":
    each = f"{grpo.get('prompts_per_step', '?')} prompts x {group} completions"
    made.append(f"{policy.step} steps of GRPO on {each}")
  rank = (config.get("policy") or {}).get("lora_rank")
  licence = _licence(report)
  named = licence.get("license_name") or licence.get("license") or "not known here"
  start = found or ("random weights" if config.get("model") == "random:tiny" else "a local model")
  return [
    ("start", start),
    ("licence of the start", named),
    ("training", ", then ".join(made)),
    ("what was trained", f"LoRA adapters of rank {rank}" if rank else "all weights"),
    ("what is here", "the adapters alone" if policy.adapters else "whole weights"),
    ("seed", str(config.get("seed", "?"))),
    ("made with", f"gtalign_jax {commit() or __version__}"),
  ]


def _caveat(report: Report, policy: Policy) -> str:
  """Where the last row of the table is of another step than the one that is exported."""
  name = "sft" if policy.phase == "sft" else "grpo"
  evaluated = [row["step"] for row in report.metrics if row.get("policy") == name]
  if name not in report.rows:
    return f"This policy ({label(name)}, update {policy.step}) was not evaluated."
  if name == "grpo" and evaluated and evaluated[-1] != policy.step:
    return (
      f"The row {label(name)} is of update {evaluated[-1]}, the weights here are of update "
      f"{policy.step}."
    )
  return ""


def _asked(data: Row, form: str) -> dict[str, str]:
  """How the policy is asked: a sentence, and the system prompt where there is one."""
  template = data.get("template", "")
  try:
    system = prompts.template_text(template, form)
  except OSError:  # released: each prompt brings its own
    told = "Its prompts hold their own instructions, those of the released GTAlign data: `SYSTEM`."
    return {"asked": told, "system": ""}
  return {"asked": "It was trained with this system prompt, `SYSTEM`:", "system": system}


def _prompts(report: Report) -> str:
  data = report.config.get("data") or {}
  root = data.get("root", "")
  origin = "the sample set that comes with gtalign_jax" if not root else "local files"
  origin = (
    f"[{root}](https://huggingface.co/datasets/{root})" if _on_hub(root, report.workdir) else origin
  )
  sources = ", ".join(map(_plain, sorted(_sources(report))))
  named = f", of the sources {sources}" if sources else ""
  turns = (report.config.get("conversation") or {}).get("turns", 1)
  talk = f" Conversations had up to {turns} turns of the assistant." if turns > 1 else ""
  return f"Prompts: {origin}{named}.{talk}"


def _sources(report: Report) -> set[str]:
  return {str(row.get("data_source")) for rows in report.rows.values() for row in rows}


def _weights(rewards: Row, prefix: str) -> str:
  parts = {
    key.removeprefix(prefix): each for key, each in rewards.items() if key.startswith(prefix)
  }
  return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in parts.items())


def _limits(report: Report) -> list[str]:
  """What a reader must know before believing the table."""
  config = report.config
  rewards, talk = config.get("rewards") or {}, config.get("conversation") or {}
  judge, user = rewards.get("judge") or {}, talk.get("user") or {}
  found = []
  if judge.get("kind") == "rule":
    told = _plain(accuracy.of_rules(_sources(report), rewards.get("tasks", {})))
    found.append(f"Rewards and table: {told}. The policy was trained to please those rules.")
  else:
    found.append("Rewards and table come from a judge that is a model, with the errors of one.")
  if talk.get("turns", 1) > 1:
    who = "a set of rules" if user.get("kind") == "rule" else "a model or a log"
    found.append(f"The user who answers back is simulated by {who}; people answer otherwise.")
  prompts_seen = max((each.prompts for each in results.policies(report)), default=0)
  found += [
    f"Measured on {prompts_seen} held-out prompts, with one seed.",
    "Payoffs are what the model says of itself; nothing makes them true.",
    "No safety training beyond that of the model it started from.",
  ]
  return found


def _plain(words: str) -> str:
  """Words of a run as Markdown that shows them and does nothing else, on one line."""
  return " ".join(words.split())[:400].translate(_MARKS)
