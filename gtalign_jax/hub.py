"""The Hugging Face hub: whether it answers, and a model pushed to it.

It is asked once whether it is there: its libraries retry for half a minute.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from gtalign_jax import address
from gtalign_jax.errors import BadInput, RunFailure, first_line

if TYPE_CHECKING:
  from huggingface_hub import HfApi

ANSWER_S = 5.0  # seconds in which the hub must answer
TOKEN = "HF_TOKEN"  # environment variable; a flag would show the token in lists of processes
# of an earlier model in the same repository: readers would mix them with what is pushed
_STALE = re.compile(r"(adapter_)?model[^/]*\.safetensors(\.index\.json)?|adapter_config\.json")


def ask(kind: Literal["model", "dataset"], name: str) -> None:
  """Asks the hub for a repository.

  Raises HfHubHTTPError (of huggingface_hub) where the hub answers that there is none, or none for
  this user; some other error where it does not answer, or HF_HUB_OFFLINE is set.
  """
  if _offline():
    raise ConnectionError("HF_HUB_OFFLINE is set")
  from huggingface_hub import HfApi  # deferred: most runs name local files

  getattr(HfApi(), f"{kind}_info")(name, timeout=ANSWER_S)


def _offline() -> bool:
  return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def unreachable(kind: Literal["model", "dataset"], name: str) -> Exception | None:
  """Why the hub cannot be asked; None where it answers, whatever the answer is."""
  from huggingface_hub.utils import HfHubHTTPError

  try:
    ask(kind, name)
  except HfHubHTTPError:
    return None
  except Exception as error:  # the hub and its HTTP client raise many kinds
    return error
  return None


class Destination(NamedTuple):
  """A repository that the token may write to. is_there: whether it exists already."""

  name: str
  is_there: bool
  api: HfApi


def check_name(name: str) -> None:
  """Raises BadInput where `name` is no OWNER/NAME that the hub takes."""
  from huggingface_hub.utils import HFValidationError, validate_repo_id

  try:
    validate_repo_id(name)
    fault = "" if name.count("/") == 1 else "it has no owner"
  except HFValidationError as error:
    fault = first_line(error).partition(":")[0].removesuffix(".")
  if fault:
    raise BadInput(f"--push {name[:100]!r}: must be OWNER/NAME of a hub repository ({fault})")


def destination(name: str) -> Destination:
  """Asks the hub whether a push can succeed, before any work; changes nothing there.

  Raises BadInput at a bad name, without a token that may write, or where the owner is somebody
  else; RunFailure where the hub does not answer.
  """
  check_name(name)
  if _offline():
    raise BadInput(f"--push {name}: HF_HUB_OFFLINE is set; unset it to push")
  token = os.environ.get(TOKEN, "").strip()
  if not token:
    raise BadInput(
      f"--push {name}: {TOKEN} is not set; put a token with write access into that variable "
      "(huggingface.co/settings/tokens)"
    )
  # HTTP clients quote a header that they cannot send, and it would be the token
  if not re.fullmatch(r"[!-~]+", token):
    raise BadInput(f"--push {name}: {TOKEN} holds characters that no token has; copy it again")
  from huggingface_hub import HfApi
  from huggingface_hub.utils import HfHubHTTPError

  api = HfApi(token=token)
  try:
    try:
      api.model_info(name, timeout=ANSWER_S)
      is_there = True
    except HfHubHTTPError as error:
      if error.response.status_code not in (401, 403, 404):
        raise
      is_there = False
    me = api.whoami()
  except Exception as error:
    raise _failure(name, api, error) from None  # a chain of causes may quote the request's headers
  owners = [me.get("name", "")] + [each.get("name", "") for each in me.get("orgs") or []]
  if name.partition("/")[0].lower() not in map(str.lower, owners):
    raise BadInput(
      f"--push {name}: the token of {TOKEN} is that of {owners[0]!r}, who may push to "
      f"{' or '.join(f'{each}/…' for each in owners)}"
    )
  role = ((me.get("auth") or {}).get("accessToken") or {}).get("role")
  if role == "read":
    raise BadInput(f"--push {name}: the token of {TOKEN} may only read; make one that may write")
  return Destination(name, is_there, api)


def push(to: Destination, folder: str | Path, public: bool) -> str:
  """Pushes the files of a folder in one commit: all of them or none; returns its address.

  A repository that is not there is made, private unless `public`; one that is there stays as
  visible as it is, and loses the weights of an earlier model. Raises as `destination` does.
  """
  from huggingface_hub import CommitOperationAdd, CommitOperationDelete

  paths = {path.name: path for path in sorted(Path(folder).iterdir()) if path.is_file()}
  try:
    to.api.create_repo(to.name, private=not public, exist_ok=True)
    there = to.api.list_repo_files(to.name) if to.is_there else []
    stale = [name for name in there if _STALE.fullmatch(name) and name not in paths]
    # not upload_folder, which makes several commits: readers would see a part of a model
    done = to.api.create_commit(
      to.name,
      [
        *(CommitOperationAdd(name, path) for name, path in paths.items()),
        *(CommitOperationDelete(name) for name in stale),
      ],
      commit_message="Policy exported by gtalign_jax",
    )
  except Exception as error:
    raise _failure(to.name, to.api, error) from None
  return str(done.commit_url)


def _failure(name: str, api: HfApi, error: Exception) -> BadInput | RunFailure:
  """What to raise for an error of huggingface_hub or its HTTP client; the token is not in it."""
  from huggingface_hub.utils import HfHubHTTPError

  cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
  cause = error if isinstance(error, HfHubHTTPError) else cause
  said = getattr(cause, "server_message", None) or first_line(cause)
  said = said.replace(str(api.token), "***")
  head = f"--push {name}:"
  if not isinstance(cause, HfHubHTTPError):
    return RunFailure(f"{head} {address.masked(api.endpoint)}: {said}; nothing was pushed")
  match cause.response.status_code:
    case 401:
      return BadInput(f"{head} the hub does not know the token of {TOKEN}; make a new one")
    case 403 | 404:
      return BadInput(f"{head} the token of {TOKEN} may not write there ({said})")
    case status:
      return RunFailure(f"{head} the hub answered {status} ({said}); nothing was pushed, try again")
