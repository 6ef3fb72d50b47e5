"""Routes for uploads, thumbnails and downloads, which identify a browser by its cookie."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from farshot.app.guard import UPLOAD
from farshot.app.sessions import Session, Sessions
from farshot.app.workspace.downloads import DOWNLOADS, is_ready
from farshot.app.workspace.intake import Refused, Upload
from farshot.app.workspace.names import shown_name
from farshot.errors import DataError
from farshot.storage.archives import in_megabytes

_MOST_WAITING = 4  # archives' worth of bytes that may wait to be looked at


def routes(sessions: Sessions) -> list[Route]:
    """Everything below /farshot/."""

    def session_of(request: Request) -> Session:
        token = request.scope["state"]["token"]
        if token is None:
            raise DataError("This browser has not loaded the page; load it first.")
        return sessions.get(token)

    async def upload(request: Request) -> Response:
        """One file as the request's body; its name, with folders, is in the query."""
        if request.headers.get("x-farshot") != "1":  # no form on another page can send this header
            return PlainTextResponse("This is for the app's own page.", 403)
        try:
            session = session_of(request)
        except DataError as error:
            return JSONResponse({"refused": str(error)}, 503)
        name = unquote(request.query_params.get("name", ""))[:1000]
        most = sessions.limits.archive_bytes
        place = session.new_file()
        size, fault = 0, None
        try:
            with place.open("wb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most:
                        fault = f"it is over {in_megabytes(most)}; make it smaller, or send it in parts."
                        break
                    file.write(chunk)
            if fault is None and session.bytes_waiting + size > _MOST_WAITING * most:
                fault = "too much was sent at once; send it in parts."
        except (ClientDisconnect, OSError) as error:
            fault = (
                "the transfer broke off; send it again."
                if isinstance(error, ClientDisconnect)
                else (f"it could not be stored ({error.strerror}); free some space.")
            )
        if fault is not None:
            place.unlink(missing_ok=True)
            session.refuse(Refused(shown_name(name), fault))
            return JSONResponse({"refused": fault}, 413)
        session.received(Upload(name, place))
        return JSONResponse({})

    def thumbnail(request: Request) -> Response:
        try:
            place = session_of(request).workspace.thumbnail(request.path_params["id"])
        except DataError:
            return PlainTextResponse("There is no such picture.", 404)
        return FileResponse(
            place, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"}
        )

    def download(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in DOWNLOADS:
            return PlainTextResponse("There is no such file.", 404)
        try:
            workspace = session_of(request).workspace
        except DataError:
            return PlainTextResponse("Load the page first.", 404)
        if not is_ready(workspace, name):
            return PlainTextResponse("Make this file first, on the page.", 404)
        place = workspace.folder / "downloads" / DOWNLOADS[name].file
        return FileResponse(place, filename=place.name, headers={"cache-control": "no-store"})

    return [
        Route(UPLOAD, upload, methods=["POST"]),
        Route("/farshot/thumbnail/{id}", thumbnail),
        Route("/farshot/download/{name}", download),
    ]
