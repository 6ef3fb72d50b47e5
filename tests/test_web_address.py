"""The sockets of farshot's servers."""

from __future__ import annotations

import asyncio
import socket

import pytest

from farshot.errors import SettingError
from farshot.web.address import bound, url_of


def test_answers_are_sent_at_once() -> None:
    """Without TCP_NODELAY the second part of an answer waits for the client, 40 ms each time."""
    listening = bound("127.0.0.1", [0])

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            used = writer.get_extra_info("socket")
            found.set_result(used.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        server = await asyncio.start_server(connected, sock=listening)
        async with server:
            _, writer = await asyncio.open_connection(*listening.getsockname())
            told = await found
            writer.close()
            await writer.wait_closed()
        return told

    assert asyncio.run(accepted())


def test_the_first_free_port_is_taken() -> None:
    taken = bound("127.0.0.1", [0])
    number = taken.getsockname()[1]
    taken.listen()
    with taken, pytest.raises(SettingError, match=f"Port {number} of 127.0.0.1 cannot be used"):
        bound("127.0.0.1", [number])
    assert url_of("::1", 8000) == "http://[::1]:8000"


def test_of_two_that_listen_at_once_each_has_its_port() -> None:
    """Two sockets that are only bound may have the same."""
    with bound("127.0.0.1", [0], listening=True) as first:
        number = first.getsockname()[1]
        with bound("127.0.0.1", [number, 0], listening=True) as second:
            assert second.getsockname()[1] != number
