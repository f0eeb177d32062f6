"""Whether the Hugging Face hub answers: asked once; its libraries retry for half a minute."""

import os
from typing import Literal

ANSWER_S = 5.0  # seconds in which the hub must answer


def ask(kind: Literal["model", "dataset"], name: str) -> None:
  """Asks the hub for a repository.

  Raises HfHubHTTPError (of huggingface_hub) where the hub answers that there is none, or none for
  this user; some other error where it does not answer, or HF_HUB_OFFLINE is set.
  """
  if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
    raise ConnectionError("HF_HUB_OFFLINE is set")
  from huggingface_hub import HfApi  # deferred: most runs name local files

  getattr(HfApi(), f"{kind}_info")(name, timeout=ANSWER_S)


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
