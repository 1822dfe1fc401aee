"""The consoles that the program creates on the host: files, ptys and the serial port's socket."""

from __future__ import annotations

import os
import socket
from typing import Any

from hvcore.testing.fake_ch.rules import Config
from hvcore.testing.fake_ch.tree import os_error
from hvcore.testing.fake_ch.vm import Failure

_TOP = ("Error creating console devices", "Error creating console device")


class Consoles:
    """The open consoles of a VM; created when it is, and again when it is booted again."""

    def __init__(self) -> None:
        self._open: list[Any] | None = None

    def create(self, config: Config) -> None:
        """Create what the configuration asks for, unless it is there.

        :raises Failure: when one cannot be created
        """
        if self._open is not None:
            return
        made: list[Any] = []
        try:
            for name in ("console", "serial", "debug_console"):
                self._one(name, config[name], made)
        except OSError as error:
            _close(made)
            raise Failure(*_TOP, os_error(error)) from None
        except Failure:
            _close(made)
            raise
        self._open = made

    def _one(self, name: str, console: Config, made: list[Any]) -> None:
        mode = console["mode"]
        if mode == "File":
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            made.append(os.open(console["file"] or "", flags, 0o666))
        elif mode == "Pty":
            main, sub = os.openpty()
            made += [main, sub]
            console["file"] = os.ttyname(sub)
        elif mode == "Socket":
            if name != "serial":
                raise Failure(_TOP[0], "No socket option support for console device")
            listener = socket.socket(socket.AF_UNIX)
            made.append(listener)
            listener.bind(console["socket"] or "")
            listener.listen()

    def close(self) -> None:
        """Close them; a socket's file stays, as the real program leaves it."""
        _close(self._open or [])
        self._open = None


def _close(made: list[Any]) -> None:
    for each in made:
        if isinstance(each, int):
            os.close(each)
        else:
            each.close()
