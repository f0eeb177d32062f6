"""Ids: rows without tokens, tokens without rows, ends of turns, special tokens inside text."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import model_cases
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, normalizers

from gtalign_jax import models
from gtalign_jax.errors import BadInput
from gtalign_jax.models import decoder, export, tokenizer, vocabulary
from gtalign_jax.models.variants import TINY
from gtalign_jax.ops.logprobs import token_logprobs
from gtalign_jax.ops.sampling import sample
from gtalign_jax.rewards import chain
from gtalign_jax.rollout import stop


@pytest.fixture(scope="module")
def template(tmp_path_factory):
  policy = models.load("random:tiny")
  out = tmp_path_factory.mktemp("vocabulary") / "model"
  return export.save(policy.config, policy.params, policy.tokenizer, out, eos_ids=(2,))


@pytest.fixture
def folder(template, tmp_path):
  return shutil.copytree(template, tmp_path / "model")


def edit(path, **changes):
  value = json.loads(path.read_text()) | changes
  path.write_text(json.dumps({k: v for k, v in value.items() if v != "absent"}))


def resize(folder, rows):
  """Gives the model another number of rows: further ones larger than any, to be seen if drawn."""
  tensors = load_file(folder / "model.safetensors")
  table = tensors["model.embed_tokens.weight"]
  more = np.full((max(0, rows - len(table)), table.shape[1]), 5.0, np.float32)
  tensors["model.embed_tokens.weight"] = np.concatenate([table, more])[:rows]
  save_file(tensors, folder / "model.safetensors")
  edit(folder / "config.json", vocab_size=rows)


def add_tokens(folder, *texts, first=320):
  path = folder / "tokenizer.json"
  made = json.loads(path.read_text())
  flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
  for i, text in enumerate(texts):
    made["added_tokens"].append({"id": first + i, "content": text, "special": True} | flags)
  path.write_text(json.dumps(made))


def test_rows_without_token_have_no_share(folder):
  resize(folder, 384)
  path = folder / "tokenizer.json"
  made = json.loads(path.read_text())
  made["model"]["vocab"]["far"] = 350
  path.write_text(json.dumps(made))
  policy = models.load(folder)
  assert policy.config.blank == ((320, 350), (351, 384))
  spelled = np.ones(384, bool)
  spelled[320:] = np.arange(320, 384) == 350
  hidden_BTD = jax.random.normal(jax.random.key(0), (2, 8, TINY.width))
  logits_BTV = decoder.unembed(policy.config, policy.params, hidden_BTD)
  assert np.array_equal(np.isfinite(logits_BTV), np.broadcast_to(spelled, logits_BTV.shape))
  # the trainer's probabilities are those of the sampler, whose draws are never a row without token
  token_B, logp_B = sample(logits_BTV.reshape(16, -1), jnp.linspace(0, 0.999, 16))
  assert spelled[token_B].all()
  for block in (64, 4096):

    def total(hidden_BTD, head_DV, block=block):
      logp_BT, entropy_BT = token_logprobs(
        hidden_BTD, head_DV, token_B.reshape(2, 8), blank=policy.config.blank, block=block
      )
      return logp_BT.sum() + entropy_BT.sum(), (logp_BT, entropy_BT)

    head_DV = decoder.head(policy.config, policy.params)
    grads, (logp_BT, entropy_BT) = jax.grad(total, (0, 1), has_aux=True)(hidden_BTD, head_DV)
    np.testing.assert_allclose(logp_BT.reshape(-1), logp_B, atol=1e-5)
    logp_BTV = jax.nn.log_softmax(logits_BTV[..., spelled])
    np.testing.assert_allclose(entropy_BT, -(jnp.exp(logp_BTV) * logp_BTV).sum(-1), atol=1e-4)
    assert all(np.isfinite(each).all() for each in grads)
    assert not np.asarray(grads[1])[:, ~spelled].any() and np.asarray(grads[1])[:, spelled].any()


def test_a_whole_vocabulary_is_not_masked():
  assert models.load("random:tiny").config == TINY and TINY.blank == () and TINY.spelled_V is None


def test_tokens_without_row(folder):
  add_tokens(folder, "<|extra|>")
  with pytest.raises(BadInput, match=r"token '<\|extra\|>' has id 320, but .* vocab_size=320"):
    models.load(folder)
  resize(folder, 328)
  assert models.load(folder).config.blank == ((321, 328),)


@pytest.mark.parametrize(
  "value", ["2", "<|im_end|>", 320, -1, 2.0, True, [2, "3"], [[2]], {"a": 2}]
)
@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_ends_that_are_no_ids(folder, name, value):
  edit(folder / "generation_config.json", eos_token_id="absent")
  edit(folder / name, eos_token_id=value)
  with pytest.raises(BadInput, match=f"eos_token_id=.* of {name} must be ids of tokens"):
    models.load(folder)


def test_added_tokens_with_gaps(folder):
  """The tokenizers library would count on from 320, and every id from there on would be another's."""
  resize(folder, 384)
  add_tokens(folder, "<|far|>", first=350)
  with pytest.raises(BadInput, match=r"with gaps, at .*far"):
    models.load(folder)


def test_an_end_in_a_row_without_token(folder):
  resize(folder, 384)
  edit(folder / "generation_config.json", eos_token_id=[2, 350])
  with pytest.raises(BadInput, match=r"eos_token_id=\[2, 350\] of generation_config.json"):
    models.load(folder)


def test_no_end_anywhere(folder):
  for name in ("config.json", "generation_config.json"):
    edit(folder / name, eos_token_id="absent")
  edit(folder / "tokenizer_config.json", eos_token="absent")
  with pytest.raises(BadInput, match="nothing says which token ends a turn"):
    models.load(folder)
  edit(folder / "config.json", eos_token_id=[0, 2])  # then the tokenizer learns it, for warm starts
  policy = models.load(folder)
  assert policy.eos_ids == (0, 2) and policy.tokenizer.eos_token_id == 0


def test_tags_as_special_tokens_survive(folder):
  tags = [tag for pair in chain.TAGS for tag in pair]
  resize(folder, 328)
  add_tokens(folder, *tags)
  made = models.load(folder).tokenizer
  text = "<thinking>a</thinking><payoff>{}</payoff><analyze>b</analyze><response>c</response>"
  ids = made.encode(text, add_special_tokens=False)
  assert {*range(320, 328)} <= {*ids}
  assert vocabulary.spell(made, [*ids, 2], (2,)) == text
  assert not vocabulary.control_ids(made) & {*range(320, 328)}
  table, state = stop.stop_table(made, ("</response>",), 328), 0
  states = [state := table[state, each] for each in ids]
  assert states[-1] == len(table) - 1 and len(table) - 1 not in states[:-1]


def test_a_tokenizer_that_cannot_spell_a_chain():
  backend = Tokenizer.from_str(tokenizer.tiny().backend_tokenizer.to_str())
  backend.normalizer = normalizers.Lowercase()
  made = tokenizer._wrap(backend, None, eos_token="<|im_end|>")
  with pytest.raises(BadInput, match="cannot spell a chain: 'DQ_DA"):
    vocabulary.check_chain(made, "m")
  vocabulary.check_chain(tokenizer.tiny(), "m")
  vocabulary.check_chain(model_cases.small_tokenizer(), "m")


def test_special_tokens_are_spelled_and_counted():
  made = tokenizer.tiny()
  made.add_tokens([AddedToken("[tool]", special=True)])
  ids = [1, *made.encode("in", add_special_tokens=False), 320, 2, 2]
  assert vocabulary.spell(made, ids, (2,)) == "<|im_start|>in[tool]<|im_end|>"
  assert vocabulary.spell(made, np.asarray(ids)) == "<|im_start|>in[tool]<|im_end|><|im_end|>"
  assert {0, 1, 2, 3, 320} == vocabulary.control_ids(made)


def test_arch_with_blank_ids_is_written_and_read(folder):
  resize(folder, 384)
  policy = models.load(folder)
  out = export.save(
    policy.config, policy.params, policy.tokenizer, folder.parent / "again", eos_ids=(2,)
  )
  assert models.load(out).config == policy.config != dataclasses.replace(policy.config, blank=())
