"""Constrained decoding: what is drawn parses strictly and within budget, and is scored as drawn."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_cases import engine, policy, prompts, run
from scripted import encode, opening, tenths

from gtalign_jax import models
from gtalign_jax.algorithms import scoring
from gtalign_jax.config import Config, vary
from gtalign_jax.data import concierge, sources
from gtalign_jax.errors import BadInput
from gtalign_jax.models.vocabulary import control_ids
from gtalign_jax.ops.grammar import END
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel import sharding
from gtalign_jax.rewards import chain
from gtalign_jax.rollout import chain_bytes, constrain
from gtalign_jax.rollout.engine import to_device
from gtalign_jax.rollout.lanes import Asked, Lanes
from gtalign_jax.sections import DataConfig, MeshConfig, PolicyConfig
from gtalign_jax.synthesize import labels
from gtalign_jax.types import BLOCKS, TrainBatch

pytestmark = pytest.mark.usefixtures("shared_programs")
GAME = dict(zip(BLOCKS, (20, 125, 20, 25)))
THINK = {"thinking": 22, "response": 26}  # as short as tests of the engine need
LEAST = (15, 113, 15, 17)  # what the tiny tokenizer, mostly bytes, needs


@functools.cache
def constraint(budgets=LEAST):
  alone = sharding.replicated(meshes.make(MeshConfig(), jax.devices()[:1]))
  arch = policy().config
  named = dict(zip(BLOCKS, budgets, strict=True))
  made = constrain.constraint(policy().tokenizer, arch.vocab_size, named, alone)
  return made._replace(grammar=type(made.grammar)(*map(np.asarray, made.grammar)))


def text_of(ids):
  return policy().tokenizer.decode(ids)


def walked(ids, made, count=0):
  """The state after `ids`; asserts that each of them could be drawn."""
  class_V, next_SC, latest_SC = made.grammar
  state = made.chains.entry[0]
  for count, token in enumerate(ids):
    assert latest_SC[state, class_V[token]] >= count, (text_of(ids[:count]), text_of([token]))
    state = next_SC[state, class_V[token]]
  return state


# ---------------------------------------------------------------- the tables


@settings(max_examples=25)
@given(
  st.integers(0, 2**32 - 1), st.sampled_from([LEAST, (15, 125, 15, 40), (30, 100, 20, 20)]),
  st.floats(0, 1),
)  # fmt: skip
def test_whatever_is_drawn_parses_strictly_within_its_budgets(seed, budgets, haste):
  made, rng = constraint(budgets), np.random.default_rng(seed)
  class_V, next_SC, latest_SC = made.grammar
  ids, state = [], made.chains.entry[0]
  while state != END:
    free_C = np.flatnonzero(latest_SC[state] >= len(ids))
    on_C = free_C[next_SC[state, free_C] < state]  # states are numbered from the end
    chosen = rng.choice(on_C if len(on_C) and rng.random() < haste else free_C)
    ids.append(int(rng.choice(np.flatnonzero(class_V == chosen))))
    state = next_SC[state, chosen]
  assert control_ids(policy().tokenizer).isdisjoint(ids)
  found = chain.parse(text_of(ids))
  assert found.error is None and np.abs(found.payoff).max() < 10
  blocks = chain.token_blocks([made.bytes_V[each] for each in ids])
  for block, end in enumerate(np.cumsum(budgets)):
    assert np.flatnonzero(blocks <= block)[-1] < end


def test_every_chain_of_the_warm_start_can_be_drawn():
  made = constraint((400, 400, 400, 400))
  records = sources.load(DataConfig(), "train")
  for record in [*records[::16], *concierge.records("train", 4)]:
    assert walked(encode(labels.chain(record, 0)), made) == END


FRAME = "<thinking>{}</thinking><payoff>{}</payoff><analyze>{}</analyze><response>{}</response>"
PARTS = (
  "<",
  "/",
  ">",
  "thinking",
  "<thinking>",
  "</thinking",
  "</analyze>",
  "<payoff",
  "response>",
)
CELLS = opening(tenths(0)).partition("<payoff>")[2].removesuffix("</payoff>")


@settings(max_examples=200)
@given(
  st.lists(
    st.sampled_from(
      [*PARTS, " ", "\n", "\u3000", "\u00a0", "\u00e9", "\u3042", "\x1c", "\x00", "a", "<|im_end|>"]
    ),
    max_size=6,
  ).map("".join)
)
def test_text_is_allowed_exactly_where_the_strict_parser_takes_it(text):
  made = constraint().chains
  for place in (0, 2, 3):
    texts = ["a", CELLS, "a", "a"]
    texts[place] = text
    whole = FRAME.format(*texts)
    accepted = made.after(whole.encode(), made.entry[0]) == END
    # the automaton does not know every character that is more than one byte
    said = any(byte in chain_bytes.SAYS for byte in text.replace("\u3042", "").encode())
    strict = chain.parse(whole).error is None
    assert accepted <= strict and (accepted or not strict or not said)


@pytest.mark.parametrize(
  "cells",
  ["{}", CELLS[:-1], CELLS.replace("DQ_DA", "DQ_XX"), CELLS.replace(":", ": "), CELLS + "}",
   CELLS.replace("LLM", "llm"), CELLS.replace("DQ_CQ", "DQ_DA"), f" {CELLS}"],
)  # fmt: skip
def test_other_payoffs_cannot_be_drawn(cells):
  made = constraint().chains
  assert made.after(FRAME.format("a", CELLS, "a", "a").encode(), made.entry[0]) == END
  assert made.after(FRAME.format("a", cells, "a", "a").encode(), made.entry[0]) != END


@pytest.mark.parametrize(
  "number, fits",
  [*((each, True) for each in ("3", "-3", "0.5", "-4.25", "0.00", "9.99", "-0")),
   *((each, False) for each in ("--3", "+3", "10", "03", "3.", ".5", "3.125", "1e1", "-", "NaN"))],
)  # fmt: skip
def test_numbers(number, fits):
  made = constraint().chains
  before = made.after(b'<thinking>a</thinking><payoff>{"DQ_DA":{"LLM":', made.entry[0])
  assert (made.after(f"{number},".encode(), before) != chain_bytes.DEAD) == fits


@pytest.mark.parametrize("behind", ["", "<", "<analyze>So", "\n"])
def test_an_opening_goes_on_after_its_payoffs(behind):
  made = constraint()
  ids, prompt = np.asarray(encode(opening(tenths(0)))), np.asarray(encode("What is 1 + 1?"))
  start, resumed = made.chains.entry[0], made.chains.entry[2]
  pieces = [*made.bytes_V, b"</payoff>"[-1:] + behind.encode()]  # a token that holds more
  spanning = made._replace(bytes_V=pieces)
  last = np.asarray([len(pieces) - 1])
  states = spanning.begin(
    [prompt, np.concatenate([prompt, ids]), np.concatenate([ids[:-1], last]), [*ids, *prompt], []]
  )
  goes_on = made.chains.after(behind.strip().encode(), resumed)
  assert states.tolist() == [start, resumed, goes_on, start, start]


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"rollout.constrain": (20, 100, 20)}, "must be 4 numbers, tokens of thinking, payoff"),
    (
      {"rollout.constrain": (9, 9, 9), "chain.form": "think"},
      "2 numbers, tokens of thinking, resp",
    ),
    ({"rollout.constrain": (9,), "chain.form": "none"}, "has no effect with chain.form='none'"),
    ({"rollout.constrain": (20, 0, 20, 20)}, "must be numbers of at least 1"),
    ({"rollout.constrain": (99, 99, 99, 99)}, "that is 396 tokens, more than rollout.max_new_tok"),
    (
      {"rollout.constrain": (9, 120, 9, 9), "rollout.stop": ("\n",)},
      "breaks off at '\\n' does not",
    ),
  ],
)
def test_refused_settings(changes, said):
  with pytest.raises(BadInput, match=r"rollout\.constrain=") as refused:
    vary(Config(), changes)
  assert said in str(refused.value)


def test_budgets_that_the_tokenizer_does_not_fit_in():
  constraint(LEAST)
  with pytest.raises(BadInput, match=r"thinking cannot be closed in time.*analyze 15, response 17"):
    constraint((LEAST[0] - 1, 200, 20, 20))
  with pytest.raises(BadInput, match="payoff cannot be closed in time"):
    constraint((30, 113 - 16, 200, 20))
  constraint((30, 113 - 15, 20, 20))  # what thinking leaves over is the payoffs'


# ---------------------------------------------------------------- on the device


def test_chains_of_an_untrained_policy_parse():
  out = run(engine(budgets=GAME, budget=190, segment=64, group_size=2, top_p=0.95), prompts())
  for ids, mask in zip(out.tokens_BC, out.mask_BC):
    assert chain.parse(text_of(ids[mask])).error is None
  assert out.stopped_B.all() and np.isfinite(out.logp_BC).all()


def thought(**changes):
  return engine(budgets=THINK, budget=48, segment=20, temperature=0.7, **changes)


def scored(made, out, params=None):
  """Log-probabilities of the rollout's tokens as training computes them, and entropies."""
  target = scoring.Objective(policy().config, PolicyConfig(), 0.7, 48, None)
  prompt = to_device(made.programs.mesh, prompts(), range(4), 4, (16,), constraint=made.constraint)
  batch = TrainBatch(prompt, out.tokens_BC, out.mask_BC, grammar=made.grammar)
  score = jax.jit(functools.partial(scoring.logprobs, target))
  with jax.set_mesh(made.programs.mesh):
    return [np.asarray(x) for x in score(params or policy().params, None, batch)]


@pytest.fixture(scope="module")
def rollout():
  return run(thought(), prompts())


def test_sampler_and_scorer_agree(rollout):
  logp_BC, entropy_BC = scored(thought(), rollout)
  assert np.abs(rollout.logp_BC - logp_BC)[rollout.mask_BC].max() < 1e-4
  assert np.isfinite(logp_BC).all() and np.isfinite(entropy_BC).all()
  # where few classes may follow there is little to choose
  free_BC, _ = scored(thought()._replace(constraint=None), rollout)
  assert (logp_BC - free_BC)[rollout.mask_BC].mean() > 1


def test_refills_and_a_mesh_change_no_sample(rollout):
  few = run(thought(slots=2), prompts())
  np.testing.assert_array_equal(rollout.tokens_BC, few.tokens_BC)
  grid = meshes.make(MeshConfig(data=2, fsdp=2, tensor=2))
  params = models.load("random:tiny", mesh=grid).params
  made = thought(mesh=grid)
  many = run(made, prompts(), params=params)
  np.testing.assert_array_equal(rollout.tokens_BC, many.tokens_BC)
  logp_BC, _ = scored(made, many, params=params)
  assert np.abs(many.logp_BC - logp_BC)[many.mask_BC].max() < 1e-4


def test_rows_of_a_server_close_within_the_tokens_of_their_own():
  made = thought(slots=2, group_size=1)
  key = jax.device_put(jax.random.key(3), sharding.replicated(made.programs.mesh))
  lanes, budgets = Lanes(made, policy().params, key), (48, 34)
  lanes.fill([0, 1], [Asked(ids, 0, budget) for ids, budget in zip(prompts(), budgets)])
  for _ in range(3):
    lanes.run(min_free=3)
  out = lanes.read()
  assert out.stopped_B.all() and (out.count_B <= budgets).all()
  for ids, count in zip(out.tokens_BC, out.count_B):
    text = text_of(ids[:count])
    assert text.startswith("<thinking>") and text.endswith("</response>")
