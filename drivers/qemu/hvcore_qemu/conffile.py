"""Files of settings: libvirt's own syntax (``qemu.conf``) and TOML (``qemu.toml``).

libvirt's is a little Python: ``name = value``, one in a line or separated by semicolons, where a
value is an integer, a string in quotes or a list; strings have no escapes. What is wrong is said
in libvirt's words, with the file and the line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError

if TYPE_CHECKING:
    from pathlib import Path

_SPACES: Final = re.compile(r"[ \t]*")
_SPACES_AND_LINES: Final = re.compile(r"[ \t\r\n]*")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NUMBER: Final = re.compile(r"([-+]?)([0-9]*)", re.ASCII)
_REST: Final = re.compile(r"[^\r\n]*")
_STRINGS: Final = {
    # opening quotes: the whole string; the longest comes first
    '"""': re.compile(r'"""(.*?)"""', re.DOTALL),
    '"': re.compile(r'"([^"\r\n]*)"'),
    "'": re.compile(r"'([^'\r\n]*)'"),
}
_INT_MAX: Final = 2**31 - 1
_UINT_MAX: Final = 2**32 - 1
_LONG_MAX: Final = 2**63 - 1


class _Reader:
    """A position in the text of a file in libvirt's syntax."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.at = 0

    def error(self, message: str, kind: ErrorClass = ErrorClass.CONF_SYNTAX) -> HvError:
        line = self.text.count("\n", 0, self.at) + 1
        return HvError(f"{self.name}:{line}: {message}", kind=kind)

    def ahead(self, what: str) -> bool:
        return self.text.startswith(what, self.at)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def settings(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.take(_SPACES_AND_LINES)
        while self.at < len(self.text):
            if self.ahead("#"):
                self.take(_REST)
            else:
                name, value = self.statement()
                found.setdefault(name, value)  # the first one counts, as with libvirt
            self.separator()
        return found

    def statement(self) -> tuple[str, Any]:
        name = self.take(_NAME)
        if name is None:
            raise self.error("expecting a name")
        self.take(_SPACES)
        if not self.ahead("="):
            raise self.error("expecting an assignment")
        self.at += 1
        value = self.value()
        self.take(_SPACES)
        if self.ahead("#"):
            self.take(_REST)
        return name[0], value

    def separator(self) -> None:
        self.take(_SPACES)
        if self.ahead(";"):
            self.at += 1
        elif self.at < len(self.text) and self.text[self.at] not in "\r\n":
            raise self.error("expecting a separator")
        self.take(_SPACES_AND_LINES)

    def value(self) -> Any:
        self.take(_SPACES)
        if self.ahead("["):
            return self.items()
        for quotes, pattern in _STRINGS.items():
            if self.ahead(quotes):
                found = self.take(pattern)
                if found is None:
                    raise self.error("unterminated string")
                return found[1]
        number = self.take(_NUMBER)
        assert number is not None  # it matches nothing, too
        if not number[0]:
            raise self.error("expecting a value")
        if not number[2]:
            raise self.error("unterminated number")
        if int(number[2]) > _LONG_MAX:
            raise self.error("numeric overflow in conf value", ErrorClass.OVERFLOW)
        return int(number[0])

    def items(self) -> list[Any]:
        self.at += 1
        found: list[Any] = []
        self.take(_SPACES_AND_LINES)
        while self.at < len(self.text) and not self.ahead("]"):
            found.append(self.value())
            self.take(_SPACES_AND_LINES)
            if self.ahead(","):
                self.at += 1
                self.take(_SPACES_AND_LINES)
            elif self.at < len(self.text) and not self.ahead("]"):
                raise self.error("expecting a separator in list")
        if not self.ahead("]"):
            raise self.error("list is not closed with ]")
        self.at += 1
        return found


@attrs.frozen
class Settings:
    """The settings of one file, asked for by name and kind.

    :ivar file: the file's path, for messages.
    :ivar values: what the file says, by name.
    """

    file: str
    values: dict[str, Any]

    def boolean(self, name: str) -> bool:
        """Return a setting that is 0 or 1 (in TOML true or false, too).

        :raises HvError: when it is something else.
        """
        value = self.values[name]
        if isinstance(value, bool):
            return value
        if not isinstance(value, int) or value < 0:
            raise self._refused(f"expected a bool for '{name}' parameter")
        if value > 1:
            raise self._refused(f"value for '{name}' parameter must be 0 or 1")
        return bool(value)

    def string(self, name: str) -> str:
        """Return a setting that is a text.

        :raises HvError: when it is something else.
        """
        value = self.values[name]
        if not isinstance(value, str):
            raise self._refused(f"expected a string for '{name}' parameter")
        return value

    def signed(self, name: str) -> int:
        """Return a setting that is a number of 32 bits.

        :raises HvError: when it is something else, or out of range.
        """
        value = self.values[name]
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._refused(f"expected a signed integer for '{name}' parameter")
        if not -_INT_MAX - 1 <= value <= _INT_MAX:
            raise self._refused(
                f"value for '{name}' parameter must be in range {-_INT_MAX - 1}:{_INT_MAX}"
            )
        return value

    def unsigned(self, name: str) -> int:
        """Return a setting that is a number of 32 bits and not negative.

        :raises HvError: when it is something else, or out of range.
        """
        value = self.values[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._refused(f"expected an unsigned integer for '{name}' parameter")
        if value > _UINT_MAX:
            raise self._refused(f"value for '{name}' parameter must be in range 0:{_UINT_MAX}")
        return value

    def _refused(self, message: str) -> HvError:
        return HvError(f"{self.file}: {message}", kind=ErrorClass.INTERNAL)


def parse(text: str, file: str) -> Settings:
    """Return the settings in ``text``, TOML if the name ``file`` says so, else libvirt's syntax.

    :raises HvError: with file and line, when the text is neither.
    """
    if not file.endswith(".toml"):
        return Settings(file, _Reader(text, file).settings())
    import tomllib  # noqa: PLC0415 - every qemu URI reads settings, and few of them are TOML

    try:
        return Settings(file, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise HvError(f"{file}: {error}", kind=ErrorClass.CONF_SYNTAX) from error


def read(folder: Path, name: str) -> Settings | None:
    """Return the settings of ``name.conf`` or ``name.toml`` in ``folder``; None without either.

    :raises HvError: when it cannot be read, or when there are both.
    """
    files = [path for path in (folder / f"{name}.conf", folder / f"{name}.toml") if path.exists()]
    if not files:
        return None
    if len(files) > 1:
        raise HvError(f"there are both {files[0]} and {files[1]}", kind=ErrorClass.CONF_SYNTAX)
    try:
        return parse(files[0].read_text("utf-8"), str(files[0]))
    except OSError as error:
        raise HvError(
            f"Failed to open file '{files[0]}': {error.strerror}", kind=ErrorClass.SYSTEM
        ) from error
    except UnicodeDecodeError as error:
        raise HvError(f"{files[0]}: not UTF-8: {error}", kind=ErrorClass.CONF_SYNTAX) from error
