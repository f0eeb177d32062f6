"""Dynamic sampling: which groups stay, and a run whose groups often carry no signal."""

import dataclasses

import jax
import numpy as np
import pytest
import short_config
from real_runs import metrics

from gtalign_jax.train import loop, resample
from gtalign_jax.types import Experience, Rollout

P, G, C = 3, 2, 4


def experience(first):
  """Groups whose numbers say which they are: `first`, first + 1, …"""
  group_B = np.repeat(first + np.arange(P), G)
  tokens_BC = np.broadcast_to(group_B[:, None], (P * G, C)).copy()
  rollout = Rollout(tokens_BC, tokens_BC > 0, tokens_BC * 1.0, group_B > 0)
  return Experience(
    prompts=[np.asarray([first + p]) for p in range(P)],
    rollout=rollout,
    rows=[{"group": int(each)} for each in group_B],
    count_PG=group_B.reshape(P, G),
    length_P=first + np.arange(P),
    head_P=first + np.arange(P),
    reward_PG=group_B.reshape(P, G) * 1.0,
    utility_PGC=np.repeat(group_B, 2).reshape(P, G, 2) * 1.0,
  )


@pytest.mark.parametrize(
  "wanted, chosen",
  [
    ([0, 2], [10, 12, 11]),
    ([1, 3, 5], [11, 20, 22]),
    ([], [10, 11, 12]),
    ([0, 1, 2, 3], [10, 11, 12]),
  ],
)
def test_wanted_groups_come_first_and_whole(wanted, chosen):
  found = resample.merged(experience(10), experience(20), wanted)
  assert [int(each[0]) for each in found.prompts] == chosen
  assert [row["group"] for row in found.rows] == np.repeat(chosen, G).tolist()
  assert found.head_P.tolist() == chosen
  for array in (found.count_PG, found.reward_PG, found.utility_PGC[..., 0]):
    np.testing.assert_array_equal(array[:, 0], chosen)
  for array in found.rollout[:3]:
    assert len(array) == P * G
  np.testing.assert_array_equal(found.rollout.tokens_BC[:, 0], np.repeat(chosen, G))


def test_a_run_draws_again_what_carries_no_signal(tmp_path, monkeypatch):
  """The warm start answers alike within many groups; what is left of them leaves the counts."""
  one = jax.devices()[:1]
  monkeypatch.setattr(jax, "devices", lambda *_: one)
  config = short_config.config()
  config = dataclasses.replace(
    config,
    workdir=str(tmp_path),
    grpo=dataclasses.replace(config.grpo, steps=3, resample_rounds=2),
    eval=dataclasses.replace(config.eval, every=0),
  )
  loop.train(config)
  rows = [row for row in metrics(tmp_path) if row["phase"] == "grpo"]
  assert len(rows) == 3
  for row in rows:
    rounds, dropped = row["resample/rounds"], row["resample/dropped_groups"]
    assert rounds == 2 or row["resample/unfilled_frac"] == 0
    # 4 groups a round: those dropped, those trained on, and those that came too late
    assert 4 * row["resample/unfilled_frac"] <= dropped <= 4 * (rounds + 1)
    assert row["frac_reward_zero_std"] == row["resample/unfilled_frac"]
  assert any(row["resample/rounds"] for row in rows)


def test_later_turns_go_with_their_conversations():
  def with_turns(first, parents):
    group = first + np.asarray(parents) // G  # each says which group it is of
    tokens_RC = np.broadcast_to(group[:, None], (len(group), C)).copy()
    turns = Experience(
      prompts=[np.asarray([each]) for each in group],
      rollout=Rollout(tokens_RC, tokens_RC > 0, tokens_RC * 1.0, group > 0),
      rows=[],
      count_PG=group[:, None],
      length_P=group,
      parent_P=np.asarray(parents, np.int32),
    )
    return experience(first)._replace(later=turns)

  one, two = with_turns(10, [0, 1, 3, 5]), with_turns(20, [1, 4])
  found = resample.merged(one, two, [2, 4])  # groups 12 and 21, and 10 to fill up
  groups = [row["group"] for row in found.rows]
  turns = found.later
  assert [groups[b] for b in turns.parent_P] == [int(ids[0]) for ids in turns.prompts]
  assert turns.count_PG[:, 0].tolist() == turns.length_P.tolist() == [10, 10, 12]
  assert turns.rollout.tokens_BC[:, 0].tolist() == [10, 10, 12]
  none = resample.merged(one, with_turns(20, []), [3, 4, 5]).later
  assert none.rollout.tokens_BC.shape == (0, C) and none.parent_P.shape == (0,)
