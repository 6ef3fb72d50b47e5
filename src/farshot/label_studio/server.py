"""Start and stop the ML backend: its model, threads and HTTP server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from farshot.label_studio.instance import Instance
from farshot.label_studio.options import Options
from farshot.label_studio.service import Service
from farshot.label_studio.trainer import Trainer
from farshot.serve.batches import Batcher
from farshot.serve.guard import Guard
from farshot.serve.server import running
from farshot.web.address import LOOPBACK, bound

_MOST_FETCHED = 4


@dataclass(frozen=True)
class Running:
    """A backend that runs.

    Attributes:
        url: where this computer finds it.
        trainer: of its model.
        is_alive: whether it still runs.
    """

    url: str
    trainer: Trainer
    is_alive: Callable[[], bool]


@contextmanager
def assembled(options: Options, told: Callable[[str], None]) -> Iterator[tuple[Guard, Trainer]]:
    """The application with its model and threads, without a server.

    Raises:
        FarshotError: an address, a folder, a model or a method that cannot be used.
    """
    limits = options.limits
    with ExitStack() as ending:
        instance = Instance(options.url, options.token, limits.pictures.file_bytes)
        ending.callback(instance.close)
        trainer = Trainer(options, instance, told)
        batcher = Batcher(options.batching, limits.chunk * limits.requests)
        ending.callback(batcher.close)
        executor = ThreadPoolExecutor(max(_MOST_FETCHED, os.cpu_count() or 1), "farshot-fetch")
        ending.callback(executor.shutdown)
        ending.callback(trainer.close)
        service = Service(trainer, instance, batcher, executor, limits, options.control, told)
        hosts = LOOPBACK if options.loopback else ()
        trainer.start()
        yield Guard(service.app, hosts, options.api_key, limits.request_bytes), trainer


@contextmanager
def serving(options: Options, told: Callable[[str], None]) -> Iterator[Running]:
    """Answer Label Studio while the context lasts.

    Args:
        told: called with a sentence on each adaptation, and on what Label Studio would not show.

    Raises:
        FarshotError: the port is taken, or as `assembled`.
    """
    with (
        bound(options.host, [options.port]) as socket,
        assembled(options, told) as (app, trainer),
        running(app, options.host, socket) as (url, is_alive),
    ):
        yield Running(url, trainer, is_alive)
