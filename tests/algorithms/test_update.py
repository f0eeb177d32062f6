"""The optimiser step on the tiny model: shared prompts, slices, inner epochs, bad gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gtalign_jax import models
from gtalign_jax.algorithms import loss, optimizer, scoring, update
from gtalign_jax.models import decoder
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel.programs import Executables, Program
from gtalign_jax.progress import Quiet
from gtalign_jax.sections import GRPOConfig, MeshConfig, OptimConfig, PolicyConfig
from gtalign_jax.types import Prompts, TrainBatch, TrainState

P, G, T, C = 4, 3, 10, 7
LENGTHS = (3, 10, 6, 9)  # tokens of each prompt


@functools.cache
def policy():
  return models.load("random:tiny")


def batch(seed=0):
  rng = np.random.default_rng(seed)
  count_B = rng.integers(1, C + 1, P * G)
  prompt = Prompts(
    jnp.asarray(rng.integers(1, 250, (P, T)), jnp.int32),
    jnp.asarray(LENGTHS, jnp.int32),
    jnp.arange(P, dtype=jnp.int32),
  )
  tokens_BC = jnp.asarray(rng.integers(1, 250, (P * G, C)), jnp.int32)
  mask_BC = jnp.asarray(np.arange(C) < count_B[:, None])
  advantage_B = jnp.asarray(rng.standard_normal(P * G), jnp.float32)
  block_BC = jnp.asarray(rng.integers(-1, 4, (P * G, C)), jnp.int8)
  return TrainBatch(prompt, tokens_BC, mask_BC, advantage_B, block_BC=block_BC)


def cut(whole, prompts):
  rows = slice(prompts.start * G, prompts.stop * G)
  own = jax.tree.map(lambda x: x[rows], whole._replace(prompt=None))
  return own._replace(prompt=jax.tree.map(lambda x: x[prompts], whole.prompt))


class Updates:
  """`gradient_step` on one mesh of one device, its programs compiled as they are needed."""

  def __init__(self, remat="none", config=None):
    objective_policy = PolicyConfig(remat=remat)
    self.objective = scoring.Objective(
      policy().config, objective_policy, 1.0, C, config or GRPOConfig()
    )
    self.optimizer = optimizer.make(OptimConfig(lr=1e-2), 4)
    self.tx = self.optimizer.tx
    self.programs = Executables(meshes.make(MeshConfig(), jax.devices()[:1]))

  def table(self, state, totals, part):
    grads = yield Program("zero_gradients", update.zeros, (state.params,))
    grads, metrics = yield Program(
      "accumulate",
      functools.partial(update.accumulate, self.objective),
      (grads, state.params, None, totals, part),
      variant=scoring.sizes(part),
      donated=(0,),
    )
    yield Program("add_metrics", update.add_metrics, (metrics, metrics))
    apply = functools.partial(optimizer.apply, self.optimizer)
    yield Program("apply", apply, (state, grads), donated=(0,))

  def __call__(self, state, parts):
    counted = [loss.totals(part.mask_BC, part.block_BC) for part in parts]
    totals = jax.tree.map(lambda *each: jnp.asarray(sum(each), jnp.int32), *counted)
    self.programs.compile([self.table(state, totals, part) for part in parts])
    return update.gradient_step(state, parts, totals, self.programs, None, Quiet())


@functools.cache
def updates(remat="none", config=None):
  return Updates(remat, config)


def fresh(tx):
  params = jax.tree.map(jnp.copy, policy().params)
  return TrainState(jnp.int32(0), params, tx.init(params), jnp.int32(0))


def close(one, two, atol=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), one, two)


def plain(params, data):
  """Log-probabilities [B, C] with every row as one sequence of its own, nothing shared."""
  config, rows = policy().config, []
  for p, length in enumerate(LENGTHS):
    head = jnp.broadcast_to(data.prompt.tokens_PT[p, :length], (G, length))
    own = data.tokens_BC[p * G : (p + 1) * G]
    ids = jnp.concatenate([head, own], axis=1)
    at = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    hidden, _ = decoder.forward(config, params, ids, at, jnp.ones_like(ids, bool))
    logp = jax.nn.log_softmax(decoder.unembed(config, params, hidden)[:, length - 1 : -1])
    rows.append(jnp.take_along_axis(logp, own[..., None], axis=-1)[..., 0])
  return jnp.concatenate(rows)


def test_shared_prompts_give_the_plain_logprobs_and_gradients():
  data = batch()
  weight_BC = data.advantage[:, None] * data.mask_BC

  def shared(params):
    return scoring.logprobs_only(updates().objective, params, None, data)

  def total(of):
    def weighted(params):
      logp_BC = of(params)
      return jnp.sum(logp_BC * weight_BC), logp_BC

    return jax.jit(jax.value_and_grad(weighted, has_aux=True))(policy().params)

  (_, ours_BC), ours = total(shared)
  (_, theirs_BC), theirs = total(lambda params: plain(params, data))
  mask = np.asarray(data.mask_BC)
  np.testing.assert_allclose(ours_BC[mask], theirs_BC[mask], atol=1e-5)
  close(ours, theirs)


@pytest.mark.parametrize("aggregation", ["token-mean", "seq-mean-token-mean"])
def test_slices_change_neither_loss_nor_parameters(aggregation):
  data = batch()
  step = updates(config=GRPOConfig(aggregation=aggregation, block_weights=(0.5, 2.0, 1.0, 0.0)))
  tx = step.tx
  one, metrics = step(fresh(tx), [data])
  two, again = step(fresh(tx), [cut(data, slice(0, 1)), cut(data, slice(1, 4))])
  assert set(metrics) == set(again)
  for name in metrics:
    np.testing.assert_allclose(metrics[name], again[name], rtol=2e-5, atol=1e-6, err_msg=name)
  # adam divides by tiny second moments: compare the first moments, which are the gradients
  close(one.opt_state[1][0].mu, two.opt_state[1][0].mu, atol=1e-7)


def test_a_block_without_weight_is_as_if_it_had_no_advantage():
  data = batch()
  kept_BC = data.advantage[:, None] * (data.block_BC != 0)
  weighted = updates(config=GRPOConfig(block_weights=(0.0, 1.0, 1.0, 1.0)))
  _, metrics = weighted(fresh(weighted.tx), [data])
  step = Updates()  # of token advantages, so programs of its own
  _, other = step(fresh(step.tx), [data._replace(advantage=kept_BC)])
  for name in ("loss", "grad_norm", "entropy", "block/thinking/entropy", "block/payoff/length"):
    np.testing.assert_allclose(metrics[name], other[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("remat", ["full", "dots", "names"])
def test_remat_changes_nothing(remat):
  step = updates()
  tx = step.tx
  _, metrics = step(fresh(tx), [batch()])
  _, other = updates(remat)(fresh(tx), [batch()])
  np.testing.assert_allclose(metrics["grad_norm"], other["grad_norm"], rtol=1e-5)


def test_ratios_are_one_in_the_only_update_and_not_in_a_second():
  data = batch()
  step = updates()
  _, metrics = step(fresh(step.tx), [data])
  assert float(metrics["ratio/max"]) == 1.0 and float(metrics["ratio/mean"]) == pytest.approx(1.0)
  step = updates(config=GRPOConfig(inner_epochs=2))
  start = fresh(step.tx)
  old_BC = jax.jit(functools.partial(scoring.logprobs_only, step.objective))(
    start.params, None, data
  )
  data = data._replace(old_logp_BC=old_BC)
  state, metrics = step(start, [data])
  assert float(metrics["ratio/max"]) == pytest.approx(1.0, abs=1e-5)
  _, again = step(state, [data])
  assert abs(float(again["ratio/max"]) - 1.0) > 1e-3


def test_non_finite_gradients_skip_the_update_and_are_counted():
  data = batch()
  step = updates()
  tx = step.tx
  state = fresh(tx)
  before = jax.tree.map(np.asarray, (state.params, state.opt_state))
  bad = data._replace(advantage=data.advantage.at[0].set(jnp.inf))
  state, metrics = step(state, [bad])
  jax.tree.map(np.testing.assert_array_equal, before, (state.params, state.opt_state))
  assert int(state.skipped) == 1 and int(state.step) == 1 and metrics["skipped_updates"] == 1
  state, _ = step(state, [data])
  assert int(state.skipped) == 1
  changed = jax.tree.map(lambda a, b: bool((np.asarray(b) != a).any()), before[0], state.params)
  assert all(jax.tree.leaves(changed))


@pytest.mark.parametrize("decay, end", [("constant", 1.0), ("linear", 0.1), ("cosine", 0.1)])
def test_schedule(decay, end):
  rate = optimizer.schedule(OptimConfig(lr=2.0, warmup=4, decay=decay, final_lr_frac=0.1), 20)
  np.testing.assert_allclose([rate(i) for i in range(4)], [0.5, 1.0, 1.5, 2.0])
  assert float(rate(20)) == pytest.approx(2.0 * end)


def test_weight_decay_spares_norms_and_biases():
  tx = optimizer.make(OptimConfig(lr=1.0, weight_decay=0.5), 4).tx
  layer = {"kernel": jnp.ones((2, 3, 4)), "scale": jnp.ones((2, 3)), "bias": jnp.ones((2, 3, 4))}
  params = {"layers": {"q": layer}, "embed": {"table": jnp.ones((3, 4))}}
  updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
  moved = updates["layers"]["q"]
  assert float(jnp.abs(moved["scale"]).max()) == float(jnp.abs(moved["bias"]).max()) == 0.0
  assert float(moved["kernel"].max()) == float(updates["embed"]["table"].max()) == -0.5


# ---------------------------------------------------------------- mini-batches


def test_mini_batches_are_a_permutation_of_the_prompts_drawn_from_seed_step_and_epoch():
  config = GRPOConfig(prompts_per_step=12, minibatch_prompts=3, inner_epochs=2)
  assert config.updates == 8

  def drawn(seed, step):
    return [each.tolist() for each in update.minibatches(12, config, seed, step)]

  order = drawn(0, 5)
  assert [len(each) for each in order] == [3] * 8
  first, second = ([p for each in order[at : at + 4] for p in each] for at in (0, 4))
  assert sorted(first) == sorted(second) == list(range(12)) and first != second
  assert drawn(0, 5) == order and drawn(0, 6) != order and drawn(1, 5) != order


def test_gradients_of_mini_batches_add_up_to_that_of_all():
  """Token means: weighted by their tokens, four gradients at the same parameters make one."""
  data, step = batch(), updates()
  gradient = jax.jit(functools.partial(update.accumulate, step.objective))
  params = policy().params

  def of(parts, mask_BC):
    zero = jax.tree.map(jnp.zeros_like, params)
    return gradient(zero, params, None, jax.tree.map(jnp.int32, loss.totals(mask_BC)), parts)[0]

  whole, tokens = of(data, data.mask_BC), data.mask_BC.sum()
  parts = [cut(data, slice(p, p + 1)) for p in range(P)]
  summed = jax.tree.map(
    lambda *each: sum(each),
    *[
      jax.tree.map(lambda g, part=part: g * (part.mask_BC.sum() / tokens), of(part, part.mask_BC))
      for part in parts
    ],
  )
  close(whole, summed, atol=1e-6)


def test_a_mini_batch_without_a_row_that_counts_changes_no_gradient():
  data, step = batch(), updates()
  zero = jax.tree.map(jnp.zeros_like, policy().params)
  empty = data._replace(mask_BC=jnp.zeros_like(data.mask_BC))
  totals = jax.tree.map(jnp.int32, loss.totals(empty.mask_BC))
  gradient = jax.jit(functools.partial(update.accumulate, step.objective))
  grads, metrics = gradient(zero, policy().params, None, totals, empty)
  assert all(not np.asarray(each).any() for each in jax.tree.leaves(grads))
  assert all(np.isfinite(each) for each in metrics.values()) and metrics["loss"] == 0
