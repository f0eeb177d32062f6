"""What files hold, in a short hash: work is resumed by contents, not by names."""

import hashlib
import os
from pathlib import Path

from gtalign_jax.errors import BadInput
from gtalign_jax.models.locate import RANDOM, locate

# Larger files are read in samples: weights of another training differ nearly everywhere, and of
# 3 GB each sample sees a part of 12 MB.
SAMPLES, SAMPLE_BYTES = 256, 4096
_READ = (".json", ".safetensors", ".model", ".txt", ".jinja")


def fingerprint(spec: str) -> str:
  """Hash of config, tokenizer, template and weights (by samples), wherever the files lie.

  Raises BadInput where there is no model `spec`.
  """
  if spec == RANDOM:
    return RANDOM  # made in code
  path = locate(spec)
  if path.is_file():
    return of_file(path)
  found = hashlib.sha256()
  for each in sorted(path.iterdir()):
    if each.suffix in _READ and not each.name.startswith(".") and each.is_file():
      found.update(f"{each.name} {of_file(each)}\n".encode())
  return found.hexdigest()[:16]


def of_file(path: str | Path) -> str:
  """Hash of the size and the bytes of a file, or of samples of it. BadInput where unreadable."""
  try:
    with open(path, "rb") as file:
      size = os.fstat(file.fileno()).st_size
      found = hashlib.sha256(str(size).encode())
      if size <= SAMPLES * SAMPLE_BYTES:
        found.update(file.read())
      else:
        for number in range(SAMPLES):  # the first is the header, the last ends the file
          file.seek(number * (size - SAMPLE_BYTES) // (SAMPLES - 1))
          found.update(file.read(SAMPLE_BYTES))
  except OSError as error:
    raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
  return found.hexdigest()[:16]
