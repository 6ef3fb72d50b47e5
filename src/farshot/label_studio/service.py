"""The routes that Label Studio asks: its protocol for ML backends.

A task whose picture cannot be used gets no prediction, and a sentence under `errors`; the others are
answered. Label Studio shows neither that nor the sentence of a refusal, so both are printed, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from farshot import __version__
from farshot.annotations.label_studio import result
from farshot.classifier.answers import Question
from farshot.errors import DataError
from farshot.images.untrusted import in_megabytes
from farshot.label_studio.instance import Instance
from farshot.label_studio.labels import Control, control_of
from farshot.label_studio.options import Limits
from farshot.label_studio.trainer import Trainer, version_name
from farshot.sanitize import plain
from farshot.serve.batches import Batcher
from farshot.serve.bodies import Given
from farshot.serve.models import Version
from farshot.serve.pictures import Fault, Picture, read
from farshot.serve.refusal import Refusal, busy
from farshot.storage.json_text import parse_object

_LABELS = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
_START = "START_TRAINING"
_MOST_TOLD = 5  # tasks of a request
_RETRY_S = 10


class Service:
    """The application; `app` is what a server runs.

    Args:
        control: name of the Choices, where a project has several.
        executor: fetches and decodes pictures.
        told: called with a sentence on what Label Studio would not show.
    """

    def __init__(
        self,
        trainer: Trainer,
        instance: Instance,
        batcher: Batcher,
        executor: Executor,
        limits: Limits,
        control: str | None = None,
        told: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self._trainer, self._instance, self._batcher, self._executor = trainer, instance, batcher, executor
        self._limits, self._control, self._told = limits, control, told
        self._predicting = 0
        self.app = app = FastAPI(title="farshot", version=__version__, docs_url=None, redoc_url=None)
        for path, route in {"/setup": self.setup, "/predict": self.predict}.items():
            app.add_api_route(path, route, methods=["POST"])
        for path, route in {"/webhook": self.webhook, "/train": self.train}.items():
            app.add_api_route(path, route, methods=["POST"], status_code=201)
        for path in ("/health", "/"):
            app.add_api_route(path, self.health, methods=["GET"])
        app.add_api_route("/versions", self.versions, methods=["GET"])
        app.add_exception_handler(Refusal, self._refused)
        app.add_exception_handler(HTTPException, self._not_found)
        app.add_exception_handler(Exception, self._broken)

    # About -------------------------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        """That the backend answers; with details where the request brings the key."""
        told: dict[str, Any] = {"status": "UP", "model_class": "farshot", "farshot": __version__}
        if request.scope["state"].get("has_key", False):
            told |= {
                "project": self._trainer.project,
                "model_version": self._version_name(),
                "training": self._trainer.is_training,
                "note": self._trainer.note,
            }
        return JSONResponse(told)

    async def versions(self) -> Response:
        """The model that answers; none before the first adaptation."""
        name = self._version_name()
        return JSONResponse({"versions": [] if name is None else [name]})

    async def setup(self, request: Request) -> Response:
        """Connect a project: check that its labelling configuration has what the model predicts."""
        body = await self._body(request)
        project = _project(body.get("project"))
        control = self._control_in(body.get("schema"))
        try:
            if self._trainer.version is not None:
                control.check_knows(map(str, self._trainer.version.classifier.classes_))
            self._trainer.connect(project)
        except DataError as error:
            raise Refusal(409, str(error)) from None
        return JSONResponse({"model_version": self._version_name()})

    # Labels ------------------------------------------------------------------------------------------

    async def webhook(self, request: Request) -> Response:
        """Note that labels have changed; other events change nothing."""
        body = await self._body(request)
        action = body.get("action")
        if not isinstance(action, str):
            raise Refusal(400, "The webhook has no `action`; Label Studio sends one with every event.")
        if action == _START:
            return self._begin(body.get("project"))
        if action in _LABELS:
            self._check_project(body.get("project"))
            found = body.get("annotation", body.get("annotations"))
            entries = found if isinstance(found, list) else [found]
            self._trainer.touch({_task_of(one) for one in entries if isinstance(one, dict)} or {0})
        return JSONResponse({"training": self._trainer.is_training}, 201)

    async def train(self, request: Request) -> Response:
        """Adapt to all labels now, as the action START_TRAINING."""
        return self._begin((await self._body(request)).get("project"))

    def _begin(self, project: object) -> Response:
        self._check_project(project)
        self._trainer.look(forced=True)
        return JSONResponse({"training": True}, 201)

    def _check_project(self, given: object) -> None:
        project = _project(given.get("id") if isinstance(given, dict) else given)
        if self._trainer.project != project:
            raise Refusal(
                409,
                f"Project {project} is not the one that is served ({self._trainer.project}); connect it "
                "first, to a backend with a folder of its project.",
            )

    # Predict -----------------------------------------------------------------------------------------

    async def predict(self, request: Request) -> Response:
        """Predictions for tasks, in their order: one each, or none."""
        if self._predicting >= self._limits.requests:
            raise busy(_RETRY_S, "many requests")
        self._predicting += 1
        try:
            return await self._predicted(request)
        finally:
            self._predicting -= 1

    async def _predicted(self, request: Request) -> Response:
        body = await self._body(request)
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise Refusal(400, "The request has no list of `tasks`; each is an object with `id` and `data`.")
        if len(tasks) > self._limits.tasks:
            raise Refusal(
                413,
                f"A request may have at most {self._limits.tasks:,} tasks; select fewer in the Data Manager.",
            )
        control = self._control_in(body.get("label_config"))
        version = self._trainer.version
        if version is None:
            return JSONResponse({"results": [[] for _ in tasks], "model_version": None})
        try:
            control.check_knows(map(str, version.classifier.classes_))
        except DataError as error:
            raise Refusal(409, str(error)) from None
        results, errors = list[Any](), dict[str, str]()
        for start in range(0, len(tasks), self._limits.chunk):
            if await request.is_disconnected():
                break  # nobody waits for the rest
            results += await self._chunk(version, control, tasks[start : start + self._limits.chunk], errors)
        for name, sentence in list(errors.items())[:_MOST_TOLD]:
            self._told(f"task {name} has no prediction: {sentence}")
        if len(errors) > _MOST_TOLD:
            self._told(f"{len(errors) - _MOST_TOLD} more tasks have no prediction.")
        answer = {"results": results, "model_version": version_name(version)}
        return JSONResponse(answer | ({"errors": errors} if errors else {}))

    async def _chunk(
        self, version: Version, control: Control, tasks: Sequence[Mapping[str, Any]], errors: dict[str, str]
    ) -> list[Any]:
        loop = asyncio.get_running_loop()
        found: list[Picture | Fault] = await asyncio.gather(
            *(
                loop.run_in_executor(self._executor, self._picture, version, control, task, number)
                for number, task in enumerate(tasks, start=1)
            )
        )
        good = [one for one in found if isinstance(one, Picture)]
        waiting = self._batcher.submit(version.predict, good, version) if good else []
        done = await asyncio.gather(*map(asyncio.wrap_future, waiting))
        question, name = Question(version.classifier), version_name(version)
        rows = iter([row for part in done for one in part for row in question.rows([""], one)])
        results: list[Any] = []
        for one in found:
            if isinstance(one, Fault):
                errors[one.name] = one.sentence
                results.append([])
                continue
            row = next(rows)
            label, probabilities = str(row["class"]), row["probabilities"]
            prediction = {"result": [result(label, control.name, control.image)], "model_version": name}
            results.append(prediction | ({"score": max(probabilities.values())} if row["calibrated"] else {}))
        return results

    def _picture(
        self, version: Version, control: Control, task: Mapping[str, Any], number: int
    ) -> Picture | Fault:
        name, data = plain(task.get("id", number), 40), task.get("data")
        try:
            if not isinstance(data, dict):
                raise DataError("it has no data.")
            return read(
                Given(name, self._instance.picture(data.get(control.column))),
                version.reading,
                self._limits.pictures,
            )
        except DataError as error:
            return Fault(name, plain(error, 500))

    def _control_in(self, config: object) -> Control:
        if not isinstance(config, str):
            raise Refusal(400, "The request has no labelling configuration; set one up in the project.")
        try:
            return control_of(config, self._control)
        except DataError as error:
            raise Refusal(422, str(error)) from None

    def _version_name(self) -> str | None:
        return None if self._trainer.version is None else version_name(self._trainer.version)

    # Bodies and refusals -----------------------------------------------------------------------------

    async def _body(self, request: Request) -> dict[str, Any]:
        """The JSON object of a request, read within limits."""
        limits, data = self._limits, bytearray()
        try:
            async with asyncio.timeout(limits.body_seconds):
                async for chunk in request.stream():
                    data += chunk
                    if len(data) > limits.request_bytes:
                        raise Refusal(
                            413,
                            f"The request is over {in_megabytes(limits.request_bytes)}; select fewer tasks.",
                        )
        except TimeoutError:
            raise Refusal(
                408, f"The body did not arrive within {limits.body_seconds:g} s; select fewer tasks."
            ) from None
        except ClientDisconnect:
            raise Refusal(400, "The transfer broke off; send it again.") from None
        if sum(map(data.count, (b",", b"[", b"{"))) > limits.values:
            raise Refusal(413, "The JSON has more values than any request needs; select fewer tasks.")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, parse_object, bytes(data))
        except ValueError as error:
            raise Refusal(
                400, f"The body is no JSON that Label Studio sends ({plain(error, 200)}); send an object."
            ) from None

    async def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        self._told(f"Refused {request.url.path}: {error.sentence}")
        return error.response()

    async def _not_found(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {404: "There is nothing at this address.", 405: f"{request.method} is not for this address."}
        sentence = words.get(error.status_code, str(error.detail))
        return Refusal(error.status_code, sentence, error.headers).response()

    async def _broken(self, request: Request, error: Exception) -> Response:
        sentence = (
            f"An error in farshot itself ({type(error).__name__}); please report it, with what the log shows."
        )
        return Refusal(500, sentence).response()


def _project(given: object) -> int:
    """The number of a project, which may come with the time when it was made: "5.1700000000"."""
    text = (
        str(given).partition(".")[0] if isinstance(given, int | str) and not isinstance(given, bool) else ""
    )
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refusal(400, "The request names no project by its number.")
    return int(text)


def _task_of(annotation: Mapping[str, Any]) -> int:
    """The task of an annotation; 0 where only the annotation is named."""
    task = annotation.get("task")
    return task if isinstance(task, int) else 0
