"""Routes for uploads, thumbnails and downloads, which identify a browser by its cookie."""

from __future__ import annotations

from functools import partial
from secrets import token_hex
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from farshot.app.actions import act_in_order
from farshot.app.guard import UPLOAD
from farshot.app.projects import Projects
from farshot.app.sessions import Session, Sessions
from farshot.app.texts import Fault, Text, message, read, shown, text
from farshot.app.tiles import tiles
from farshot.app.workspace.archive import exported, file_name
from farshot.app.workspace.downloads import DOWNLOADS, is_ready
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.intake import Refused, Upload
from farshot.app.workspace.label_file import SUFFIX, written
from farshot.app.workspace.names import shown_name
from farshot.errors import DataError
from farshot.images.untrusted import in_megabytes
from farshot.storage.json_text import parse

_MOST_WAITING = 4  # archives' worth of bytes that may be on their way at once, for each browser
_READERS = 2  # uploads, and likewise pictures to show, that are decoded at once; others wait
_FRESH = {"cache-control": "no-store"}
_CACHED = {"cache-control": "private, max-age=86400"}  # an id is a content hash
FOREIGN = "foreign"
"""The kind of an upload that shows none of the classes."""
_OURS = "x-farshot"  # a header that no form on another page can send


def routes(sessions: Sessions, encoders: Encoders, projects: Projects | None = None) -> list[Route]:
    """Everything below /farshot/ that belongs to a session.

    Args:
        projects: where sessions are projects.
    """
    started = token_hex(8)
    cached = _CACHED if sessions.keep else _FRESH  # what is deleted at the end stays in no browser either
    readers, showing = CapacityLimiter(_READERS), CapacityLimiter(_READERS)

    def session_of(request: Request) -> Session:
        told = request.scope["state"]
        if told["project"]:
            return sessions.project(told["project"])
        if told["token"] is None:
            raise Fault("session.not_loaded")
        return sessions.get(told["token"])

    async def upload(request: Request) -> Response:
        """One file as the request's body; its name, with folders, is in the query. It is stored when this
        answers."""
        if request.headers.get(_OURS) != "1":
            return PlainTextResponse(text("import.own_page"), 403)
        try:
            session = session_of(request)
        except DataError as error:
            return JSONResponse({"refused": read(error)}, 503)
        name = request.query_params.get("name", "")[:1000]
        label = request.query_params.get("into", "")
        wrapped = {"1": True, "0": False}.get(request.query_params.get("wrapped", ""))
        folders = tuple(request.query_params.getlist("folder"))
        most = sessions.limits.archive_bytes
        with session.arrival() as arrival:
            fault: Text | None = None
            try:
                with arrival.path.open("wb") as file:
                    async for chunk in request.stream():
                        arrival.size += len(chunk)
                        if arrival.size > most:
                            fault = Text("upload.too_large", size=in_megabytes(most))
                            break
                        if session.bytes_arriving > _MOST_WAITING * most:
                            fault = Text("upload.too_much")
                            break
                        file.write(chunk)
            except (ClientDisconnect, OSError) as error:
                fault = (
                    Text("upload.broke_off")
                    if isinstance(error, ClientDisconnect)
                    else Text("upload.no_room", why=error.strerror)
                )
            if fault is not None:
                session.refuse(Refused(shown_name(name), fault))
                return JSONResponse({"refused": shown(fault)}, 413)
            received = Upload(name, arrival.path, wrapped, folders)
            kind = request.query_params.get("kind", "")
            if name.lower().endswith(SUFFIX) and kind != FOREIGN:
                try:
                    said = await to_thread.run_sync(session.take_labels, received, limiter=readers)
                except DataError as error:
                    session.refuse(Refused(shown_name(name), message(error)))
                    return JSONResponse({"refused": read(error)}, 413)
                return JSONResponse({"labels": shown(said), "version": session.version})
            take = partial(session.take, label=label) if kind != FOREIGN else session.take_foreign
            try:
                new, refused = await to_thread.run_sync(take, received, limiter=readers)
            except DataError as error:  # the state cannot be written
                return JSONResponse({"refused": read(error)}, 507)
        told = [one for one in refused if one.same_as is None]
        return JSONResponse(
            {
                "new": new,
                "same": len(refused) - len(told),
                "refused": "; ".join(shown(one.reason) for one in told[:3]) if told and not new else "",
                "version": session.version,
            }
        )

    async def act(request: Request) -> Response:
        """Actions of a page in their order, as JSON; done when this answers."""
        if request.headers.get(_OURS) != "1":
            return PlainTextResponse(text("import.own_page"), 403)
        try:
            session = session_of(request)
        except DataError as error:
            return PlainTextResponse(read(error), 409)
        try:
            told = parse(await request.body())
            version = await to_thread.run_sync(act_in_order, session, encoders, told)
        except (DataError, ValueError, RecursionError) as error:
            return PlainTextResponse(read(error), 400)
        return JSONResponse({"version": version})

    async def alive(_request: Request) -> Response:
        return Response(status_code=204)

    def status(request: Request) -> Response:
        """Whether a job is running, and which start of the app this is, for pages that do not follow it."""
        try:
            session = session_of(request)
        except DataError as error:
            return PlainTextResponse(read(error), 409)
        told = {"app": started, "busy": session.busy, "version": session.version, "job": _about(session)}
        return JSONResponse(told, headers=_FRESH)

    def export(request: Request) -> Response:
        """The pictures, labels, classes and settings as one file."""
        try:
            session = session_of(request)
        except DataError as error:
            return PlainTextResponse(read(error), 404)
        id = request.scope["state"]["project"]
        name = projects.name(id) if projects is not None and id else "project"
        quoted = quote(file_name(name))
        headers = {"content-disposition": f"attachment; filename*=utf-8''{quoted}", **_FRESH}
        return StreamingResponse(
            exported(session.workspace, name), media_type="application/zip", headers=headers
        )

    def board(request: Request) -> Response:
        """All pictures and labels, for the page to draw."""
        try:
            told = tiles(session_of(request))
        except DataError as error:
            return PlainTextResponse(read(error), 409)
        return JSONResponse(told, headers=_FRESH)

    def labels(request: Request) -> Response:
        """The labels as a table."""
        try:
            table = written(session_of(request).workspace)
        except DataError as error:
            return PlainTextResponse(read(error), 404)
        headers = {"content-disposition": 'attachment; filename="labels.csv"', **_FRESH}
        return Response(table.encode("utf-8-sig"), media_type="text/csv; charset=utf-8", headers=headers)

    async def thumbnail(request: Request) -> Response:
        try:
            workspace = session_of(request).workspace
            data = await to_thread.run_sync(
                lambda: workspace.thumbnail(request.path_params["id"]).read_bytes(), limiter=showing
            )
        except (DataError, FileNotFoundError):
            return PlainTextResponse(text("route.no_picture"), 404)
        return Response(data, media_type="image/jpeg", headers=cached)

    async def large(request: Request) -> Response:
        """A picture for the large view: bounded in size, as the model reads it."""
        try:
            workspace = session_of(request).workspace
            data = await to_thread.run_sync(workspace.rendition, request.path_params["id"], limiter=showing)
        except DataError:
            return PlainTextResponse(text("route.no_picture"), 404)
        return Response(data, media_type="image/jpeg", headers=cached)

    def download(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in DOWNLOADS:
            return PlainTextResponse(text("act.no_file"), 404)
        try:
            workspace = session_of(request).workspace
        except DataError:
            return PlainTextResponse(text("route.load_first"), 404)
        if not is_ready(workspace, name):
            return PlainTextResponse(text("route.make_first"), 404)
        place = workspace.folder / "downloads" / DOWNLOADS[name].file
        return FileResponse(place, filename=place.name, headers={"cache-control": "no-store"})

    return [
        Route(UPLOAD, upload, methods=["POST"]),
        Route("/farshot/act", act, methods=["POST"]),
        Route("/farshot/alive", alive),
        Route("/farshot/status", status),
        Route("/farshot/export", export),
        Route("/farshot/tiles", board),
        Route("/farshot/labels.csv", labels),
        Route("/farshot/thumbnail/{id}", thumbnail),
        Route("/farshot/large/{id}", large),
        Route("/farshot/download/{name}", download),
    ]


def _about(session: Session) -> dict[str, object]:
    """How far the last job is, how many have ended, and how the last one did."""
    job, running = session.job, session.busy
    ended = session.jobs - running
    if job is None:
        return {"running": False, "done": 0, "total": 0, "ended": ended, "how": ""}
    how = "" if running else "failed" if job.error else "stopped" if job.stopped else "done"
    return {"running": running, "done": job.done, "total": job.total, "ended": ended, "how": how}
