"""The architecture of a model spec without its weights: `config.json` or the GGUF header."""

from pathlib import Path

from gtalign_jax.errors import BadInput
from gtalign_jax.models import folder, hf_config
from gtalign_jax.models.gguf import GGUF
from gtalign_jax.models.locate import RANDOM, locate
from gtalign_jax.models.variants import TINY, Arch


def read(spec: str, file: str | None = None) -> Arch:
  """The architecture of `spec` (see `models.load`), or of the config.json `file` where given.

  Raises BadInput where there is neither, or the config is not understood.
  """
  if file is not None:
    return hf_config.read(folder.read_json(Path(file)), Path(file).stem)
  if spec == RANDOM:
    return TINY
  path = Path(spec).expanduser()
  if not path.exists():
    path = _from_hub(spec)
  if path.suffix == ".gguf" and not path.is_dir():
    return GGUF(path).arch()
  return hf_config.read(folder.read_json(path / "config.json" if path.is_dir() else path), spec)


def _from_hub(spec: str) -> Path:
  import huggingface_hub  # deferred: most runs name local files

  try:
    return Path(huggingface_hub.hf_hub_download(spec, "config.json", etag_timeout=5))
  except Exception:  # no such id, no network, offline: the packaged models are left
    try:
      return locate(spec)
    except BadInput as error:
      raise BadInput(f"{error}; or give the shapes: --arch config.json (configs/arch)") from error
