"""`gtalign serve` as a process: a port, a model, a server that ends what it has begun."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import uvicorn

from gtalign_jax.config import Config
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.evaluate import offline
from gtalign_jax.game.pricing import Pricing
from gtalign_jax.models.locate import RANDOM
from gtalign_jax.rollout.lanes import Lanes
from gtalign_jax.rollout.stop import token_bytes
from gtalign_jax.sections import DataConfig
from gtalign_jax.serve.app import Service
from gtalign_jax.serve.choice import Model
from gtalign_jax.serve.desk import Desk
from gtalign_jax.serve.meters import Meters


class Options(NamedTuple):
  """How a model is served. queue: answers that may wait. key_env: variable with the API key."""

  host: str
  port: int
  queue: int
  pricing: Pricing | None = None
  key_env: str | None = None
  origins: Sequence[str] = ()


def run(config: Config, options: Options, ready: Callable[[str], None]) -> None:
  """Serves until a signal; ready: called with the address once requests are taken.

  Raises BadInput on a key that is not there, RunFailure on a port that is taken or a failed device.
  """
  key = _key(options.key_env)
  sampled = offline.Options(1, 1.0, config.seed)
  # the port before the model, which loads for long
  with listen(options.host, options.port) as bound, offline.Job(config, sampled, False) as job:
    lanes, model = Lanes(job.engine, job.params, job.key), model_of(config, job)
    with opened(lanes, model, config.data, options, key) as service:
      server(service, options.origins, lambda: ready(address(options.host, bound))).run([bound])


@contextlib.contextmanager
def opened(
  lanes: Lanes, model: Model, data: DataConfig, options: Options, key: str | None
) -> Iterator[Service]:
  """A service, which finishes what was begun. Raises RunFailure where the device failed."""
  meters = Meters(lanes.count)
  desk = Desk(lanes, options.queue, meters)
  try:
    yield Service(model, desk, meters, data, options.pricing, key)
  finally:
    desk.close()
  if desk.failure is not None:
    raise RunFailure(f"the device failed: {desk.failure}")


def server(service: Service, origins: Sequence[str], ready: Callable[[], None]) -> _Server:
  """The server of a service. ready: called once requests are taken."""
  app = service.app(origins)
  config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", loop="asyncio")
  return _Server(config, service, ready)


def model_of(config: Config, job: offline.Job) -> Model:
  """What clients see of the policy of a job."""
  tokenizer, sampling = job.tokenizer, job.engine.sampling
  pieces = token_bytes(tokenizer, sampling.arch.vocab_size)
  first = tokenizer.encode("a", add_special_tokens=False)[0]
  return Model(
    name=name_of(config.model),
    tokenizer=tokenizer,
    pieces=pieces,
    spaced=pieces[first].startswith(b" "),
    eos_ids=sampling.eos_ids,
    longest=config.data.max_prompt_tokens,
    budget=sampling.budget,
    form=config.chain.form,
  )


def name_of(spec: str) -> str:
  """The name of a model for clients: its hub id, or the name of its folder or file."""
  path = Path(spec).expanduser()
  if spec == RANDOM or not path.exists():
    return spec
  return path.resolve().stem if path.is_file() else path.resolve().name


def _key(variable: str | None) -> str | None:
  if variable is None:
    return None
  if not (key := os.environ.get(variable, "").strip()):
    raise BadInput(f"--api-key-env {variable}: the variable is not set; export the key in it")
  return key


def listen(host: str, port: int) -> socket.socket:
  """A socket of this address. Raises RunFailure where there is none to be had."""
  try:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(address)
    # listens at once, so that a second server finds the port taken while this one still loads
    bound.listen()
  except (OSError, UnicodeError) as error:  # a name that no address can have
    reason = getattr(error, "strerror", None) or error
    raise RunFailure(
      f"cannot serve at {host} port {port} ({reason}); give another --port"
    ) from None
  return bound


def address(host: str, bound: socket.socket) -> str:
  """What clients call it by."""
  name = f"[{host}]" if ":" in host else host
  return f"http://{name}:{bound.getsockname()[1]}"


class _Server(uvicorn.Server):
  """uvicorn that refuses new requests and finishes those under way before it ends."""

  def __init__(self, config: uvicorn.Config, service: Service, ready: Callable[[], None]):
    super().__init__(config)
    self._service, self._ready = service, ready

  def handle_exit(self, sig: int, frame: FrameType | None) -> None:
    """The first signal closes the door, the second one ends what is under way."""
    if self._service.closing:
      self.should_exit = self.force_exit = True
    self._service.closing = True

  async def startup(self, sockets: list[socket.socket] | None = None) -> None:
    await super().startup(sockets)
    self._ready()

  async def on_tick(self, counter: int) -> bool:
    """Called ten times a second; True ends the server."""
    done = self._service.closing and not self._service.open
    if done or self._service.desk.failure is not None:
      self.should_exit = True
    return await super().on_tick(counter)
