"""The routes of the service.

An image that cannot be used has an `error` in place of a prediction, and the others of its request are
answered; a request without a usable image is refused as a whole, and so is one with any bad image where
the method is transductive, since the others might get other classes without it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from farshot import __version__
from farshot.classifier.answers import Question, transductive_note
from farshot.errors import FarshotError
from farshot.sanitize import plain
from farshot.serve.batches import Batcher
from farshot.serve.bodies import Asked, Bodies
from farshot.serve.metrics import CONTENT_TYPE, OF_A_MODEL, Metrics
from farshot.serve.models import Models, Served, Version
from farshot.serve.options import Limits
from farshot.serve.pictures import Fault, Picture, read
from farshot.serve.refusal import Refusal
from farshot.serve.schema import ABOUT, BODY, NAME, PARAMETERS, answers

Route = Callable[..., Awaitable[Response]]


class Service:
    """The application; `app` is what a server runs.

    Args:
        executor: decodes images.
    """

    def __init__(
        self, models: Models, batcher: Batcher, executor: Executor, metrics: Metrics, limits: Limits
    ) -> None:
        self._models, self._batcher, self._executor = models, batcher, executor
        self._metrics, self._limits = metrics, limits
        self._bodies = Bodies(limits, executor)
        self.app = FastAPI(
            title="farshot", version=__version__, description=ABOUT, docs_url=None, redoc_url=None
        )
        self._add_routes()

    def _add_routes(self) -> None:
        app = self.app

        def post(path: str, route: Route, *parameters: dict[str, Any]) -> None:
            more = {"requestBody": BODY, "parameters": [*parameters, *PARAMETERS]}
            app.add_api_route(
                path, route, methods=["POST"], responses=answers("predicted"), openapi_extra=more
            )

        def get(path: str, route: Route, kind: str, *parameters: dict[str, Any]) -> None:
            more = {"parameters": list(parameters)} if parameters else None
            app.add_api_route(path, route, methods=["GET"], responses=answers(kind), openapi_extra=more)

        post("/predict", self.predict)
        post(OF_A_MODEL, self.predict_with, NAME)
        get("/models", self.models, "models")
        get("/models/{name}", self.model, "model", NAME)
        get("/health", self.health, "health")
        get("/metrics", self.metrics, "metrics")
        app.add_api_route("/docs", self.docs, include_in_schema=False)
        app.add_api_route("/", self.first_page, include_in_schema=False)
        app.add_exception_handler(Refusal, self._refused)
        app.add_exception_handler(HTTPException, self._not_found)
        app.add_exception_handler(Exception, self._broken)

    # Predict -----------------------------------------------------------------------------------------

    async def predict(self, request: Request) -> Response:
        """Predict the classes of images with the only model that is served."""
        return await self._answer(request, None)

    async def predict_with(self, request: Request) -> Response:
        """Predict the classes of images with one of the models."""
        return await self._answer(request, request.path_params["name"])

    async def _answer(self, request: Request, name: str | None) -> Response:
        begun = time.perf_counter()
        served = self._served(name)
        self._batcher.check_room()
        async with self._bodies.asked(request) as asked:
            with self._batcher.room(len(asked.images)):
                response = await self._predicted(served, served.version, asked)
        self._metrics.seconds.observe(time.perf_counter() - begun)
        return response

    async def _predicted(self, served: Served, version: Version, asked: Asked) -> Response:
        """The answer to a request; it is that of one version throughout."""
        try:
            question = Question(version.classifier, asked.reject, asked.coverage)
        except FarshotError as error:
            raise Refusal(400, str(error)) from None
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(
            *(
                loop.run_in_executor(self._executor, read, given, version.reading, self._limits)
                for given in asked.images
            )
        )
        good = [one for one in found if isinstance(one, Picture)]
        bad = [one for one in found if isinstance(one, Fault)]
        self._metrics.images.labels(served.name, "refused").inc(len(bad))
        if bad and (not good or version.transductive):
            raise Refusal(422, _why_none(bad, len(found), good))
        rows = iter(await self._rows(version, question, good, asked.explain))
        self._metrics.images.labels(served.name, "predicted").inc(len(good))
        images = [
            next(rows) if isinstance(one, Picture) else {"image": one.name, "error": one.sentence}
            for one in found
        ]
        return JSONResponse({"model": served.name, "version": version.id, "images": images})

    async def _rows(
        self, version: Version, question: Question, pictures: list[Picture], explain: bool
    ) -> list[dict[str, Any]]:
        kind = None if version.transductive else version
        waiting = self._batcher.submit(version.predict, pictures, kind)
        done = await asyncio.gather(*map(asyncio.wrap_future, waiting))
        note = transductive_note(version.classifier, len(pictures))
        rows = [
            row
            for picture, part in zip(pictures, (one for results in done for one in results), strict=True)
            for row in question.rows(
                [picture.name], part, " ".join([*picture.notes, *([note] if note else [])])
            )
        ]
        if explain:
            waiting = self._batcher.submit(version.explain, pictures, None)
            (drawn,) = await asyncio.gather(*map(asyncio.wrap_future, waiting))
            rows = [row | {"explanation": one} for row, one in zip(rows, drawn, strict=True)]
        return rows

    def _served(self, name: str | None) -> Served:
        known = self._models.served
        if name is None and len(known) == 1:
            return next(iter(known.values()))
        if name is None:
            raise Refusal(
                404,
                f"Several models are served ({', '.join(known)}); ask one: "
                f"/models/{next(iter(known))}/predict.",
            )
        if name not in known:
            raise Refusal(404, f"There is no model {plain(name, 60)!r}; there are {', '.join(known)}.")
        return known[name]

    # About -------------------------------------------------------------------------------------------

    async def models(self) -> Response:
        """The models that are served."""
        return JSONResponse({"models": [self._described(one) for one in self._models.served.values()]})

    async def model(self, request: Request) -> Response:
        """One of the models."""
        return JSONResponse(self._described(self._served(request.path_params["name"])))

    async def health(self, request: Request) -> Response:
        """Whether the service answers: "ok", or "degraded" where a replaced folder could not be loaded and
        the model before it is still served; with details where the request brings the key."""
        served = self._models.served.values()
        faults = any(one.fault for one in served)
        told: dict[str, Any] = {"status": "degraded" if faults else "ok", "farshot": __version__}
        if request.scope["state"].get("has_key", False):
            told["models"] = {
                one.name: {
                    "version": one.version.id,
                    "loaded": one.version.loaded.isoformat(timespec="seconds"),
                    "error": one.fault,
                }
                for one in served
            }
        return JSONResponse(told)

    async def metrics(self) -> Response:
        """Counters, as Prometheus reads them."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def docs(self) -> Response:
        """This page."""
        from farshot.serve.page import docs_page  # its templates come with matplotlib, which is slow

        return HTMLResponse(docs_page(self.app.openapi(), self._limits))

    async def first_page(self) -> Response:
        """Leads to the documentation."""
        return RedirectResponse("/docs")

    def _described(self, one: Served) -> dict[str, Any]:
        return {"name": one.name, **one.version.described(), "error": one.fault}

    # Refusals ----------------------------------------------------------------------------------------

    async def _refused(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return error.response()

    async def _not_found(self, request: Request, error: Exception) -> Response:
        """An address or a verb that there is not."""
        assert isinstance(error, HTTPException)
        words = {
            404: "There is nothing at this address; /docs lists what there is.",
            405: f"{request.method} is not for this address; /docs lists what there is.",
        }
        sentence = words.get(error.status_code, str(error.detail))
        return Refusal(error.status_code, sentence, error.headers).response()

    async def _broken(self, _request: Request, error: Exception) -> Response:
        sentence = (
            f"An error in farshot itself ({type(error).__name__}); please report it, with what the log shows."
        )
        return Refusal(500, sentence).response()


def _why_none(bad: list[Fault], images: int, good: list[Picture]) -> str:
    """Why a request is refused as a whole."""
    first = f"{bad[0].name}: {bad[0].sentence}"
    if not good:
        return first if images == 1 else f"None of the {images} images can be used; the first, {first}"
    return (
        f"{len(bad)} of {images} images cannot be used, and without them the others might get other "
        f"classes, since the method is transductive; leave them out. The first, {first}"
    )
