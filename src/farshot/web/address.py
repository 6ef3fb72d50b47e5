"""The address of a server: names of the loopback, and a port that is free."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from farshot.errors import SettingError

_WAITING = 128  # connections before the server takes them

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Host names under which only this computer can be asked."""


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach the address."""
    return host in LOOPBACK or host == "::1"


def url_of(host: str, port: int) -> str:
    """How a client on this computer writes the address."""
    name = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name and not name.startswith('[') else name}:{port}"


def bound(host: str, ports: Iterable[int], *, listening: bool = False) -> socket.socket:
    """A socket on the first of these ports that is free.

    Args:
        listening: whether it listens already, so that no other program can take the port any more; of two
            sockets that are only bound, the system may give both the same.

    Raises:
        SettingError: the host is none of this computer's, or all ports are taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    wanted, fault = list(ports), OSError("none was named")
    for port in wanted:
        # with its protocol: asyncio sends answers at once (TCP_NODELAY) on sockets that name it; otherwise
        # each answer on a connection that is used again waits for 40 ms
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host.strip("[]"), port))
            if listening:
                found.listen(_WAITING)
            return found
        except socket.gaierror as error:
            found.close()
            raise SettingError(f"{host} is no name of this computer; use --host 127.0.0.1.") from error
        except OSError as error:
            found.close()
            fault = error
    if len(wanted) == 1:
        raise SettingError(
            f"Port {wanted[0]} of {host} cannot be used ({fault.strerror}); name another --port."
        )
    raise SettingError(
        f"No port of {wanted[0]} to {wanted[-1]} can be used ({fault.strerror}); name a --port."
    )
