"""Prompts as a tensorflow-datasets data set in ArrayRecord: random access for every host.

TensorFlow is never imported: the builder writes texts only, and reading goes through
`as_data_source`.
"""

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from gtalign_jax.data.records import Record, from_row
from gtalign_jax.errors import BadInput, first_line

NAME, VERSION = "gtalign_prompts", "1.0.0"
AS_JSON = ("messages", "ground_truth", "extra_info")  # ground_truth: null is not ""


def write(splits: Mapping[str, Sequence[Record]], out_dir: str | Path) -> Path:
  """Writes records by split under `out_dir`; returns the data set's own folder.

  The order of the records is kept. Raises BadInput where a data set is there already.
  """
  out_dir = Path(out_dir)
  if find(out_dir) is not None:
    raise BadInput(f"{out_dir} already holds a prepared data set; remove it or choose another")
  builder = _builder_class()(splits=splits, data_dir=str(out_dir), file_format="array_record")
  try:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints two lines of its own
      builder.download_and_prepare()
  except OSError as error:
    raise BadInput(f"{out_dir}: cannot be written ({error.strerror or error})") from error
  return Path(builder.data_dir)


def _builder_class():
  import tensorflow_datasets as tfds  # deferred: only prepared data sets need it

  tfds.disable_progress_bar()

  # not tfds.dataset_builders.store_as_tfds_dataset: it imports TensorFlow to ask for a type
  class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """One text feature a field of Record; those of AS_JSON as JSON."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)

    def __init__(self, *, splits: Mapping[str, Sequence[Record]], **kwargs):
      self._records = splits
      super().__init__(**kwargs)

    def _info(self):
      # texts alone: these are written and read without TensorFlow
      fields = {field: tfds.features.Text() for field in Record._fields}
      return self.dataset_info_from_configs(
        features=tfds.features.FeaturesDict(fields),
        description="Prompts of a gtalign_jax config.",
        disable_shuffling=True,  # order and ids as in the source files
      )

    def _split_generators(self, dl_manager):
      del dl_manager
      return {split: self._generate_examples(records) for split, records in self._records.items()}

    def _generate_examples(self, records):
      for index, record in enumerate(records):
        row = record._asdict()
        yield index, row | {field: json.dumps(row[field]) for field in AS_JSON}

  return Builder


def find(root: str | Path) -> Path | None:
  """The folder of the prepared data set at or below `root` (two levels), None if there is none."""
  for pattern in ("", "*/", "*/*/"):
    if found := sorted(Path(root).glob(f"{pattern}dataset_info.json")):
      return found[-1].parent  # the newest version, by its name
  return None


def read(folder: str | Path, split: str) -> list[Record]:
  """All records of a split, in order. Raises BadInput where folder or split cannot be read."""
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder_from_directory(str(folder))
    splits = list(builder.info.splits)
  except Exception as error:  # tfds raises many kinds; all mean the same to the user
    raise BadInput(f"{folder}: not a readable TFDS data set ({first_line(error)})") from error
  if split not in splits:
    raise BadInput(f"{folder} has no split {split!r}; it has {', '.join(splits)}")
  try:
    found = []
    for index, row in enumerate(builder.as_data_source(split=split)):
      texts = {field: bytes(row[field]).decode("utf-8") for field in Record._fields}
      given = texts | {field: json.loads(texts[field]) for field in AS_JSON}
      # through the border again: the folder may be of an earlier version, or made by others
      found.append(from_row(given, f"{folder}, split {split!r}: row {index}", ""))
    return found
  except BadInput:
    raise
  except (OSError, ValueError, KeyError, RuntimeError) as error:
    raise BadInput(f"{folder}: split {split!r} cannot be read ({first_line(error)})") from error
