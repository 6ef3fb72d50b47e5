"""The list of projects: its page, and what it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from farshot.app.guard import IMPORT, START
from farshot.app.html import render, script, script_texts
from farshot.app.projects import MOST_LETTERS, Projects
from farshot.app.texts import Fault, Text, read, shown, text
from farshot.app.workspace.archive import most_bytes
from farshot.app.workspace.names import shown_name
from farshot.errors import DataError
from farshot.images.untrusted import in_megabytes
from farshot.storage.json_text import parse_object

_OURS = "x-farshot"
_MOST_ARRIVING = 2  # files that may be on their way at once
_MOST_TOLD = 20  # pictures that were not added, by name


def start_routes(projects: Projects, where: str) -> list[Route]:
    """The page, and what it asks for.

    Args:
        where: in which folder the projects are, in words.
    """
    one_at_a_time, arriving = CapacityLimiter(1), set[Path]()

    def page(_request: Request) -> Response:
        return HTMLResponse(
            render(
                "start.html",
                projects=projects.all(),
                where=where,
                most=MOST_LETTERS,
                texts=script_texts(),
                script=script("start.js"),
                style=script("start.css"),
            ),
            headers={"cache-control": "no-store"},
        )

    def change(told: dict[str, Any]) -> str:
        """Create, rename or delete; returns the project's id."""
        do, id, name = (told.get(key, "") for key in ("do", "id", "name"))
        if not all(isinstance(one, str) for one in (do, id, name)) or len(name) > 1000:
            raise Fault("page.unknown")
        if do == "create":
            return projects.create(name)
        if do == "rename":
            projects.rename(id, name)
        elif do == "delete":
            projects.delete(id)
        else:
            raise Fault("page.unknown")
        return id

    async def act(request: Request) -> Response:
        if request.headers.get(_OURS) != "1":
            return PlainTextResponse(text("import.own_page"), 403)
        try:
            told = parse_object(await request.body())
            return JSONResponse({"id": await to_thread.run_sync(change, told)})
        except (DataError, ValueError) as error:
            return PlainTextResponse(read(error), 400)

    async def bring(request: Request) -> Response:
        """A project's file as the request's body; it is a project when this answers."""
        if request.headers.get(_OURS) != "1":
            return PlainTextResponse(text("import.own_page"), 403)
        name = shown_name(request.query_params.get("name", "")[:1000])
        if len(arriving) >= _MOST_ARRIVING:
            return PlainTextResponse(text("import.others"), 429)
        most, place = most_bytes(projects.sessions.limits), projects.arriving()
        arriving.add(place)
        try:
            size = 0
            with place.open("xb") as file:
                place.chmod(0o600)
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most:
                        raise Fault("import.too_large", size=in_megabytes(most))
                    await to_thread.run_sync(file.write, chunk)
            id, refused = await to_thread.run_sync(projects.add, place, limiter=one_at_a_time)
        except ClientDisconnect:
            return PlainTextResponse(text("transfer.broke_off"), 400)
        except OSError as error:
            return PlainTextResponse(
                text("import.file", name=name, why=Text("transfer.no_room", why=error.strerror)), 507
            )
        except DataError as error:
            return PlainTextResponse(text("import.file", name=name, why=read(error)), 400)
        finally:
            arriving.discard(place)
            place.unlink(missing_ok=True)
        told = [text("import.file", name=one.name, why=shown(one.reason)) for one in refused[:_MOST_TOLD]]
        return JSONResponse(
            {"id": id, "name": projects.name(id), "refused": told, "more": len(refused) - len(told)}
        )

    return [
        Route(START, page),
        Route("/farshot/projects", act, methods=["POST"]),
        Route(IMPORT, bring, methods=["POST"]),
    ]
