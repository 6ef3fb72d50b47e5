"""The list of projects: its page, and what it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from farshot.app.guard import IMPORT, START
from farshot.app.projects import MOST_LETTERS, Projects
from farshot.app.workspace.archive import most_bytes
from farshot.app.workspace.names import shown_name
from farshot.errors import DataError
from farshot.explain.html import common, environment
from farshot.images.untrusted import in_megabytes
from farshot.storage.json_text import parse_object

_STATIC = Path(__file__).parent / "static"
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
        html = environment("farshot.app").get_template("start.html")
        return HTMLResponse(
            html.render(
                **common(),
                title="farshot: projects",
                projects=projects.all(),
                where=where,
                most=MOST_LETTERS,
                script=(_STATIC / "start.js").read_text(encoding="utf-8"),
                style=(_STATIC / "start.css").read_text(encoding="utf-8"),
            ),
            headers={"cache-control": "no-store"},
        )

    def change(told: dict[str, Any]) -> str:
        """Create, rename or delete; returns the project's id."""
        do, id, name = (told.get(key, "") for key in ("do", "id", "name"))
        if not all(isinstance(one, str) for one in (do, id, name)) or len(name) > 1000:
            raise DataError("The page sent something that is not known; load it again.")
        if do == "create":
            return projects.create(name)
        if do == "rename":
            projects.rename(id, name)
        elif do == "delete":
            projects.delete(id)
        else:
            raise DataError("The page sent something that is not known; load it again.")
        return id

    async def act(request: Request) -> Response:
        if request.headers.get(_OURS) != "1":
            return PlainTextResponse("This is for the app's own page.", 403)
        try:
            told = parse_object(await request.body())
            return JSONResponse({"id": await to_thread.run_sync(change, told)})
        except (DataError, ValueError) as error:
            return PlainTextResponse(str(error), 400)

    async def bring(request: Request) -> Response:
        """A project's file as the request's body; it is a project when this answers."""
        if request.headers.get(_OURS) != "1":
            return PlainTextResponse("This is for the app's own page.", 403)
        name = shown_name(unquote(request.query_params.get("name", ""))[:1000])
        if len(arriving) >= _MOST_ARRIVING:
            return PlainTextResponse("Others are importing; try again once they are done.", 429)
        most, place = most_bytes(projects.sessions.limits), projects.arriving()
        arriving.add(place)
        try:
            size = 0
            with place.open("xb") as file:
                place.chmod(0o600)
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most:
                        raise DataError(f"it is over {in_megabytes(most)}, more than a project may hold.")
                    await to_thread.run_sync(file.write, chunk)
            id, refused = await to_thread.run_sync(projects.add, place, limiter=one_at_a_time)
        except ClientDisconnect:
            return PlainTextResponse("The transfer broke off; send it again.", 400)
        except OSError as error:
            return PlainTextResponse(f"{name}: it cannot be stored ({error.strerror}); free some space.", 507)
        except DataError as error:
            return PlainTextResponse(f"{name}: {error}", 400)
        finally:
            arriving.discard(place)
            place.unlink(missing_ok=True)
        told = [f"{one.name}: {one.reason}" for one in refused[:_MOST_TOLD]]
        return JSONResponse(
            {"id": id, "name": projects.name(id), "refused": told, "more": len(refused) - len(told)}
        )

    return [
        Route(START, page),
        Route("/farshot/projects", act, methods=["POST"]),
        Route(IMPORT, bring, methods=["POST"]),
    ]
