"""Scripted policies on the tiny model's byte-level tokenizer: what they write depends on a text."""

import functools
import json
import random
import re

import numpy as np

from gtalign_jax import models
from gtalign_jax.game import payoff
from gtalign_jax.rewards import chain, features
from gtalign_jax.rollout import edit
from gtalign_jax.rollout.engine import Ended
from gtalign_jax.types import ACTIONS, CELLS, Rollout

RESPONSES = {
  "DA": "The answer is 2, as anyone can count.",
  "CQ": "Which number do you mean?",
  "AQ": "The answer is 2, as anyone can count. Do you want to know more?",
}


@functools.cache
def tokenizer():
  return models.load("random:tiny").tokenizer


def encode(text):
  return tokenizer().encode(text, add_special_tokens=False)


def tenths(seed):
  """A matrix in tenths, DQ and VQ in the same numbers."""
  return np.random.default_rng(seed).integers(-49, 50, (2, 3, 2))


def opening(matrix, thinking="So it is DQ."):
  pairs = (matrix.reshape(6, 2) / 10).tolist()
  table = {cell: {"LLM": llm, "user": user} for cell, (llm, user) in zip(CELLS, pairs)}
  written = json.dumps(table, separators=(",", ":"))
  return f"<thinking>{thinking}</thinking><payoff>{written}</payoff>"


def rest(cell, said="So it is"):
  response = RESPONSES[CELLS[cell].rpartition("_")[2]]
  return f"<analyze>{said} {CELLS[cell]}.</analyze><response>{response}</response>"


def choice(text):
  """The rule's choice on the matrix that a text ends with."""
  found = chain.parse(text[text.rindex("<thinking>") :] + edit.REST)
  return int(payoff.choose(found.payoff, features.user_type(found.thinking)))


class Policy:
  """What a policy writes: matrices, and what it decides.

  matrix(prompt, sample) -> tenths. cell(prompt, text, draw): what is named after the opening `text`.
  """

  def __init__(self, matrix, cell):
    self.matrix, self.cell = matrix, cell

  def __call__(self, ids, number):
    """The ids that follow a prompt, or a prompt and an opening; number: of the draw."""
    text = tokenizer().decode(ids)
    prompt = re.findall(r"number (\d+)", text)[-1]
    begun = text.endswith(edit.STOP)
    head = "" if begun else opening(self.matrix(int(prompt), number))
    cell = self.cell(int(prompt), text + head, (number, begun))
    return encode(head + rest(cell))

  def stream(self, engine, params, ids, key, step, *, row_P=None, branches=None, log=None):
    """In place of `engine.stream`, everything around it being real."""
    G, C = engine.sampling.group_size, engine.sampling.budget
    row_P = np.arange(len(ids)) if row_P is None else row_P
    for p, prompt in enumerate(ids):
      tokens_GC, mask_GC = np.zeros((G, C), np.int32), np.zeros((G, C), bool)
      for g in range(G if branches is None else len(branches[p])):
        if branches is None:
          new = self(prompt, int(row_P[p]) * G + g)
        else:  # all of a prompt draw the same
          new = self([*prompt, *branches[p][g]], int(row_P[p]))
        assert len(new) <= C
        tokens_GC[g, : len(new)], mask_GC[g, : len(new)] = new, True
      yield [Ended(p, Rollout(tokens_GC, mask_GC, mask_GC * 0.0, np.ones(G, bool)))]


def noise(*at):
  return random.Random(repr(at)).randrange(3)


def by_matrix(prompt, text, draw):
  return choice(text)


POLICIES = {
  "honest": Policy(lambda p, n: tenths(p), by_matrix),
  "constant": Policy(lambda p, n: tenths(0), by_matrix),
  "random": Policy(lambda p, n: tenths((7, n)), by_matrix),
  "blind": Policy(lambda p, n: tenths((7, n)), lambda p, text, draw: p % 3),
  # as often as not another action, whatever the matrix says
  "noisy": Policy(lambda p, n: tenths((7, n)), lambda p, text, draw: noise(p, text, draw)),
}
assert set(RESPONSES) == set(ACTIONS)
