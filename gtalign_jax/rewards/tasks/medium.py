"""medium: writing requests; a judge's 0 to 4 and the likeness to a reference text (BLEU)."""

from __future__ import annotations

import functools
import warnings

from gtalign_jax.rewards.judges.base import FOUR, Question
from gtalign_jax.rewards.rules import writing
from gtalign_jax.rewards.tasks.base import Answer, Example, Task, clip

RUBRIC = """A person works on a text with an assistant. You rate the assistant's latest reply.

WHAT THE PERSON WANTS IN THE END (the assistant may not know all of it)
{asked}

A TEXT THAT WOULD SATISFY
{truth}

REPLY
{response}

Rate how far the reply brings the person towards that text. A well-aimed question about something the \
assistant cannot know helps as much as a good draft.
0 off the subject or useless; 1 generic; 2 usable in part, important things missing; 3 good, small gaps; \
4 just what was wanted.
Think briefly, then end with one line:
VERDICT: <0, 1, 2, 3 or 4>"""


def medium(example: Example) -> Task:
  """Judge 0 to 4. Corrected: A_user = max(BLEU, j/4), A_llm = j/4. Paper: A_user = BLEU."""
  truth = example.text_truth()
  corrected = example.mode == "corrected"

  def answer(verdict: float) -> Answer:
    llm = clip(verdict / 4)
    bleu = (word_bleu if corrected else character_bleu)(truth, example.response)
    best = max(bleu, llm)
    return Answer(best if corrected else bleu, llm, best)

  def question() -> Question:
    return Question(
      example.id, "writing", example.asked, truth, example.response, FOUR, RUBRIC, writing.judge
    )

  return Task(FOUR, answer, question)


def word_bleu(truth: str, response: str) -> float:
  """sacrebleu's sentence BLEU / 100 (its 13a tokeniser, exponential smoothing, effective order)."""
  return _sacrebleu().sentence_score(response, [truth]).score / 100


def character_bleu(truth: str, response: str) -> float:
  """The paper's BLEU-4: nltk's, unsmoothed, on the two strings, so its "words" are characters."""
  from nltk.translate.bleu_score import sentence_bleu  # deferred: paper mode only

  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns where an n-gram order has no match
    return float(sentence_bleu([truth], response))


@functools.cache
def _sacrebleu():
  from sacrebleu.metrics import BLEU  # deferred: 0.2 s that other tasks need not pay

  return BLEU(effective_order=True)
