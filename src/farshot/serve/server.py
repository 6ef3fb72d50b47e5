"""Start and stop the service: models, threads and the HTTP server."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from socket import socket as Socket

import uvicorn
from starlette.types import ASGIApp

from farshot.serve.batches import Batcher
from farshot.serve.guard import Guard
from farshot.serve.metrics import Metrics
from farshot.serve.models import Models
from farshot.serve.options import Options
from farshot.serve.service import Service
from farshot.web.address import LOOPBACK, bound, url_of

_MOST_DECODERS = 4
_POLL_S = 0.01
_ENDING_S = 30  # for requests that run when the service ends
_LOG = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Running:
    """A service that runs.

    Attributes:
        url: where this computer finds it.
        models: that are served.
        is_alive: whether it still runs.
    """

    url: str
    models: Models
    is_alive: Callable[[], bool]


@contextmanager
def assembled(options: Options, told: Callable[[str], None] = _LOG.warning) -> Iterator[tuple[Guard, Models]]:
    """The application with its models and threads, without a server.

    Raises:
        FarshotError: a model that cannot be loaded.
    """
    with ExitStack() as ending:
        metrics = Metrics(lambda: batcher.inside)
        batcher = Batcher(options.batching, options.limits.queue, metrics.batch)
        ending.callback(batcher.close)
        executor = ThreadPoolExecutor(min(_MOST_DECODERS, os.cpu_count() or 1), "farshot-decode")
        ending.callback(executor.shutdown)
        models = Models(
            options.folders,
            model=options.model,
            device=options.device,
            told=told,
            counted=metrics.reload,
        )
        ending.callback(models.close)
        if options.reload_every:
            models.start(options.reload_every)
        service = Service(models, batcher, executor, metrics, options.limits)
        hosts = LOOPBACK if options.loopback else ()
        most = options.limits.request_bytes
        yield Guard(service.app, hosts, options.api_key, most, metrics.answered), models


@contextmanager
def serving(options: Options, told: Callable[[str], None] = _LOG.warning) -> Iterator[Running]:
    """Serve while the context lasts; requests that run at its end are answered.

    Args:
        told: called with a sentence on each model that is exchanged, or cannot be.

    Raises:
        FarshotError: the port is taken, or a model cannot be loaded.
    """
    with (
        bound(options.host, [options.port]) as socket,
        assembled(options, told) as (app, models),
        running(app, options.host, socket) as (url, is_alive),
    ):
        yield Running(url, models, is_alive)


@contextmanager
def running(app: ASGIApp, host: str, socket: Socket) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Serve an application on a bound socket while the context lasts; requests that run at the end are
    answered.

    Returns:
        The address at which this computer finds it, and whether it still runs.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        http="h11",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_ENDING_S,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, name="farshot-http")
    port = socket.getsockname()[1]
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(_POLL_S)
        yield url_of(host, port), thread.is_alive
    finally:
        server.should_exit = True
        thread.join()
