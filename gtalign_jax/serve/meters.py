"""What `GET /metrics` shows, in Prometheus' format."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)  # bounds of the histograms


class Meters:
  """The counters of one server. No label holds anything that a client wrote."""

  def __init__(self, lanes: int):
    self.registry = CollectorRegistry()
    to: Any = {"registry": self.registry}
    self.requests = Counter("gtalign_requests", "requests by status", ["code"], **to)
    self.waiting = Gauge("gtalign_queue_waiting", "rows that wait for a lane", **to)
    self.busy = Gauge("gtalign_lanes_busy", "lanes with a row", **to)
    Gauge("gtalign_lanes", "lanes", **to).set(lanes)
    self.tokens = Counter("gtalign_tokens", "tokens by kind", ["kind"], **to)
    self.first = Histogram(
      "gtalign_first_token_seconds", "from request to first token", buckets=SECONDS, **to
    )
    self.took = Histogram("gtalign_request_seconds", "of a request", buckets=SECONDS, **to)

  def began(self, seconds: float, prompt: int) -> None:
    """Counts the first token of an answer, so long after its request."""
    self.first.observe(seconds)
    self.tokens.labels("prompt").inc(prompt)

  def text(self) -> bytes:
    """The page."""
    return generate_latest(self.registry)
