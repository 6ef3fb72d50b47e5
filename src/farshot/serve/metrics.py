"""What the service counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OF_A_MODEL = "/models/{name}/predict"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one service.

    Args:
        inside: how many images are in the service now.
    """

    def __init__(self, inside: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "farshot_requests", "Requests by path and status.", ["path", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "farshot_request_seconds",
            "Seconds from a request to its answer, of predictions.",
            registry=self._registry,
            buckets=_SECONDS,
        )
        self.images = Counter(
            "farshot_images",
            "Images by model, and whether they were predicted or refused.",
            ["model", "outcome"],
            registry=self._registry,
        )
        self.batch_images = Histogram(
            "farshot_batch_images", "Images computed at once.", registry=self._registry, buckets=_SIZES
        )
        self.batch_seconds = Histogram(
            "farshot_batch_seconds", "Seconds that a batch took.", registry=self._registry, buckets=_SECONDS
        )
        self.reloads = Counter(
            "farshot_reloads",
            "Replaced folders by model, and whether the new model took its place.",
            ["model", "outcome"],
            registry=self._registry,
        )
        Gauge(
            "farshot_images_inside", "Images that wait or are worked on.", registry=self._registry
        ).set_function(inside)
        ProcessCollector(registry=self._registry)

    def answered(self, path: str, status: int) -> None:
        """Count the answer to a request, a refusal too."""
        self.requests.labels(_counted_path(path), str(status)).inc()

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_images.observe(images)
        self.batch_seconds.observe(seconds)

    def reload(self, model: str, exchanged: bool) -> None:
        """Count a replaced folder."""
        self.reloads.labels(model, "exchanged" if exchanged else "refused").inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


def _counted_path(path: str) -> str:
    """The path as it is counted: one for all models, and one for all that are no predictions."""
    if path == "/predict":
        return path
    of_a_model = path.startswith("/models/") and path.endswith("/predict")
    return OF_A_MODEL if of_a_model else "other"
