"""Where prompts come from: the sample set, parquet and JSONL files, a TFDS folder, the hub.

The source concierge is made by code (data/concierge.py): all of it for whoever names it in
`data.sources`, and a few of its records in the sample set.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gtalign_jax import files, hub, jsonl
from gtalign_jax.data import concierge
from gtalign_jax.data.records import COLUMNS, Record, from_row
from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.fields import did_you_mean
from gtalign_jax.sections import SUITES, DataConfig

log = logging.getLogger(__name__)
SAMPLE = Path(__file__).parent / "sample"
# of concierge in the sample set, whose other sources all of it would drown; twice and once as many
# as make each kind of request complete and lacking (12 kinds)
SAMPLE_SIZES = {"train": 48, "test": 24}
SUFFIXES = (".parquet", ".jsonl")
SPLITS = ("train", "val", "validation", "dev", "test")  # that file names end in
Places = Iterable[tuple[str, Mapping[str, Any]]]


def load(data_config: DataConfig, split: str) -> list[Record]:
  """All records of `split`, source by source, in the order of the files.

  Reads `data.root`: "" the sample set; a folder of `<source>/<split>.parquet|jsonl`, or, without
  such folders, of files whose rows say their source (`_is_of`); one such file (the split is then
  only a name); a folder written by `gtalign prepare`; else a hub id. Raises BadInput where it
  cannot be read, a row is malformed, or a source or split is not there.
  """
  root = data_config.root
  path = files.named(root)
  if not root:
    stems: dict[str, list[Path]] = {}
    for each in sorted(SAMPLE.glob("*.jsonl")):  # <source>_<split>.jsonl
      stems.setdefault(each.stem.rpartition("_")[0], []).append(each)
    records = _from_files(
      stems, split, "the sample set", data_config.sources, SAMPLE_SIZES.get(split, 0)
    )
  elif os.path.isfile(path):
    records = _only(read_file(path, split), data_config.sources, root, split)
  elif os.path.isdir(path):
    records = _from_folder(path, split, data_config.sources)
  else:
    records = _only(_from_hub(root, split), data_config.sources, root, split)
  _check_unique(records, root)
  return records


def suite(data_config: DataConfig, split: str, name: str) -> list[Record]:
  """The records of a suite of SUITES, in its order; what `data.root` does not have is told.

  Raises BadInput as `load` does, and where it has nothing of the suite.
  """
  wanted, made = SUITES[name], (concierge.SOURCE,)
  records = load(replace(data_config, sources=()), split) if wanted != made else []
  if concierge.SOURCE in wanted:  # all of it, of which the sample set has a part
    records = [each for each in records if each.data_source not in made]
    records += load(replace(data_config, sources=made), split)
  found: dict[str, list[Record]] = {source: [] for source in wanted}
  for record in records:
    found.get(record.data_source, []).append(record)
  where = data_config.root or "the sample set"
  if missing := [source for source, part in found.items() if not part]:
    if len(missing) == len(wanted):
      raise BadInput(f"suite {name!r}: {where} has no {split!r} of {', '.join(missing)}")
    log.warning("suite %s: %s has no %s of %s", name, where, split, ", ".join(missing))
  return [record for part in found.values() for record in part]


def read_file(path: str | Path, split: str = "") -> list[Record]:
  """The records of one parquet or JSONL file.

  Their ids, unless the rows bring their own, are `<source>/<split or file stem>/<row>`. Raises
  BadInput, naming file and row.
  """
  path = Path(path)
  if path.suffix == ".parquet":
    places: Places = ((f": row {index}", row) for index, row in enumerate(_parquet(path)))
  elif path.suffix == ".jsonl":
    # not through datasets: its JSON reader guesses types, so that the answer "007" becomes 7
    places = ((f":{line}", row) for line, row in jsonl.read(path))
  else:
    raise BadInput(f"{path}: prompts are read from {' and '.join(SUFFIXES)} files")
  records = _records(places, split or path.stem, str(path))
  _check_unique(records, str(path))
  return records


def _records(places: Places, name: str, origin: str) -> list[Record]:
  """The records of (place, row) from `origin`; says how many had characters replaced."""
  replaced: list[str] = []
  found = [
    from_row(row, f"{origin}{place}", f"{row.get('data_source')}/{name}/{number}", replaced)
    for number, (place, row) in enumerate(places)
  ]
  if not found:
    raise BadInput(f"{origin}: holds no prompts; remove it or name another")
  if replaced:
    log.warning(
      "%s: lone surrogates and NUL in %d rows are replaced by U+FFFD, the first in %s",
      *(origin, len(replaced), replaced[0]),
    )
  return found


def _from_folder(root: Path, split: str, sources: Sequence[str]) -> list[Record]:
  from gtalign_jax.data import tfds_builder

  prepared = tfds_builder.find(root)
  if prepared is not None:
    return _only(tfds_builder.read(prepared, split), sources, str(root), split)
  where = f"data.root={str(root)!r}"
  try:
    found = {
      folder.name: paths
      for folder in sorted(path for path in root.iterdir() if path.is_dir())
      if (paths := sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES))
    }
    flat = sorted(path for path in root.iterdir() if path.suffix in SUFFIXES and path.is_file())
  except OSError as error:
    raise BadInput(f"{where}: cannot be read ({error})") from error
  if not (found or flat):
    raise BadInput(
      f"{where} holds no <source>/{split}.parquet or .jsonl, no such file whose rows say their "
      "source, and no prepared data set"
    )
  if found:
    return _from_files(found, split, str(root), sources)
  records = [each for path in flat if _is_of(path, split) for each in read_file(path)]
  if not records:
    raise BadInput(f"no file of split {split!r} in {root}, as NAME_{split}.parquet would be")
  return _only(records, sources, str(root), split)


def _is_of(path: Path, split: str) -> bool:
  """Whether a file of a flat folder is of `split`: its name ends in it, as in minerva_test.parquet.

  One that names no split is a test set: benchmarks come so, and nobody is to train on them.
  """
  last = re.split(r"[-_.]", path.stem)[-1]
  return last == split or (split == "test" and last not in SPLITS)


def _select(found: Mapping[str, Any], sources: Sequence[str], where: str) -> dict[str, Any]:
  """The wanted sources of those found; all of them if none is named."""
  for source in sources:
    if source not in found:
      known = ", ".join(sorted(found)) + did_you_mean(source, tuple(found))
      raise BadInput(f"data.sources names {source!r}, but {where} has {known}")
  return {source: found[source] for source in sources or found}


def _from_files(
  found: Mapping[str, Any], split: str, where: str, sources: Sequence[str], unnamed: int = 0
) -> list[Record]:
  """Reads the split of each source; a source that was asked for by name must have it.

  unnamed: how many records of concierge belong to it where no source is named.
  """
  records: list[Record] = []
  # made by code unless the folder has its own
  found = {**found, concierge.SOURCE: found.get(concierge.SOURCE)}
  for source, paths in _select(found, sources, where).items():
    if paths is None:
      records += _made(split) if sources else concierge.records(split, unnamed)
      continue
    # the sample set lies in one folder, so its file names hold the source too
    own = [path for path in paths if path.stem in (split, f"{source}_{split}")]
    if sources and not own:
      raise BadInput(f"data.sources: {source!r} in {where} has no split {split!r}")
    for path in own[:1]:  # .jsonl before .parquet: the same split twice is one split
      records += read_file(path, split)
  if not records:
    raise BadInput(f"no prompts of split {split!r} in {where}; see data.train_split, eval_split")
  return records


def _made(split: str) -> list[Record]:
  """All records of concierge's split."""
  if split not in concierge.SIZES:
    known = ", ".join(concierge.SIZES)
    raise BadInput(f"data.sources: 'concierge' has no split {split!r} (it has {known})")
  return concierge.records(split, concierge.SIZES[split])


def _only(records: list[Record], sources: Sequence[str], where: str, split: str) -> list[Record]:
  """Records of the wanted sources, in the order in which these are named."""
  found: dict[str, list[Record]] = {}
  for record in records:
    found.setdefault(record.data_source, []).append(record)
  if concierge.SOURCE in sources and concierge.SOURCE not in found:
    found[concierge.SOURCE] = _made(split)
  chosen = [record for part in _select(found, sources, where).values() for record in part]
  if not chosen:
    raise BadInput(f"{where}: holds no prompts")
  return chosen


def _check_unique(records: Sequence[Record], root: str) -> None:
  seen: set[str] = set()
  # rows of a run are told apart by the prompt's id, in samples, evaluations and comparisons
  for record in records:
    if record.id in seen:
      where = root or "the sample set"
      raise BadInput(f"{where}: two rows have the id {record.id!r}; ids must be unique")
    seen.add(record.id)


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
  import pyarrow.parquet as pq  # deferred: most runs read JSONL

  try:
    # opened here, for a name is a name: libraries take some for patterns or addresses
    with open(path, "rb") as file:
      # without `datasets`, whose later versions write kinds of columns that earlier ones refuse
      opened = pq.ParquetFile(file)
      columns = [name for name in opened.schema_arrow.names if name in COLUMNS]
      for batch in opened.iter_batches(batch_size=256, columns=columns):
        yield from batch.to_pylist(maps_as_pydicts="strict")
  except Exception as error:  # the library raises many kinds; all mean the same to the user
    raise BadInput(f"{path}: not a readable parquet file ({first_line(error)})") from error


def _from_hub(root: str, split: str) -> list[Record]:
  import datasets  # deferred: the import takes a second

  # the library's own bars and tracebacks would stand between ours
  datasets.disable_progress_bars()
  datasets.logging.set_verbosity(datasets.logging.CRITICAL)
  logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it reports each of its retries
  # what is plainly a path is not looked for on the hub
  if root.count("/") > 1 or root.startswith((".", "/", "~")):
    raise BadInput(f"data.root={root!r}: no such file or folder")
  # one short question first: without a network the library would retry for half a minute
  silent, before = hub.unreachable("dataset", root), datasets.config.HF_HUB_OFFLINE
  try:
    # without a hub it then takes its own copy of an earlier download, or gives up at once
    datasets.config.HF_HUB_OFFLINE = before or silent is not None
    found = datasets.load_dataset(root, split=split)
    rows = list(found.select_columns([c for c in found.column_names if c in COLUMNS]))
  except Exception as error:
    raise BadInput(
      f"data.root={root!r}, split {split!r}: neither a folder here nor a data set of the hub "
      f"({first_line(silent or error)})"
    ) from error
  finally:
    datasets.config.HF_HUB_OFFLINE = before
  return _records(((f": row {i}", row) for i, row in enumerate(rows)), split, root)
