"""How long answers took, and how many of them were known."""

from __future__ import annotations


class Stats:
  """Latencies and cache hits of `name` (judge, user) since they were last read."""

  def __init__(self, name: str) -> None:
    self._name = name
    self.seconds: list[float] = []
    self.asked = self.hits = 0

  def read(self) -> dict[str, float]:
    """NAME/latency_p50 and _p95 (seconds an answer), NAME/cache_hit_frac; and a fresh start.

    {} where nothing was asked: metrics leave out what they cannot know.
    """
    out: dict[str, float] = {}
    if self.asked:
      out[f"{self._name}/cache_hit_frac"] = self.hits / self.asked
    if self.seconds:
      ranked = sorted(self.seconds)
      for name, share in (("p50", 0.5), ("p95", 0.95)):
        at = min(int(share * len(ranked)), len(ranked) - 1)
        out[f"{self._name}/latency_{name}"] = ranked[at]
    self.seconds, self.asked, self.hits = [], 0, 0
    return out
