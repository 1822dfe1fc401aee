"""The images of a disk, from the one that the guest writes to down to the last: its chain.

Documents nest backing stores; rules about them are about a list. Names of images, and what is said
when there is none of that name, are those of libvirt's ``virStorageSourceChainLookup``.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.model.devices.storage import BackingStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.disk import Mirror
    from hvcore.model.devices.storage import Source
    from hvcore.model.devices.storage import StorageFormat
    from hvcore.model.devices.storage import StorageType

_INDEXED: Final = re.compile(r"(?P<target>\w+)\[(?P<index>\d+)\]")


@attrs.frozen
class Image:
    """One image of a chain."""

    type: StorageType | None
    format: StorageFormat | None
    source: Source | None
    metadata_cache: int | None = None

    @property
    def path(self) -> str | None:
        """Its path or its name on a server, where it has one."""
        return getattr(self.source, "path", None) or getattr(self.source, "name", None)

    @property
    def index(self) -> int | None:
        """The number that ``vda[3]`` means."""
        return None if self.source is None else self.source.index

    def is_at(self, other: Image) -> bool:
        """Tell whether two images are at the same place."""
        return (self.type, self.path) == (other.type, other.path)


def images(disk: Disk) -> list[Image]:
    """Return the chain that the document names, the image of the guest first."""
    return [
        Image(disk.type, disk.format, disk.source, disk.metadata_cache),
        *[
            Image(layer.type, layer.format, layer.source, layer.metadata_cache)
            for layer in disk.backing_chain()
            if layer.source is not None
        ],
    ]


def closed(disk: Disk) -> bool:
    """Tell whether the document says where the chain ends."""
    last = None
    for layer in disk.backing_chain():
        last = layer
    return last is not None and last.source is None


def set_images(disk: Disk, chain: Sequence[Image], *, closed: bool) -> None:
    """Let a disk have a chain.

    :param closed: say that it ends there; otherwise it is to be looked at for what follows.
    """
    top, *rest = chain
    assert top.type is not None
    disk.type, disk.format, disk.source = top.type, top.format, top.source
    disk.metadata_cache = top.metadata_cache
    below: BackingStore | None = BackingStore() if closed else None
    for image in reversed(rest):
        below = BackingStore(
            type=image.type,
            # A disk may leave it out, and is raw then; an image below another may not.
            format=image.format or "raw",
            source=image.source,
            metadata_cache=image.metadata_cache,
            backing_store=below,
        )
    disk.backing_store = below


def mirrored(mirror: Mirror) -> Image:
    """Return the image that a mirror is."""
    return Image(mirror.type, mirror.format, mirror.source, mirror.metadata_cache)


def find(
    chain: Sequence[Image], name: str | None, target: str | None, *, below: int | None = None
) -> int:
    """Return which image of a chain is meant.

    :param name: its path, or ``vda[3]``; None for the last one.
    :param target: of the disk.
    :param below: only the images below this one.
    :raises HvError: there is none, in libvirt's words.
    """
    first = 0 if below is None else below + 1
    start = target or chain[0].path
    match = None if name is None else _INDEXED.fullmatch(name)
    if match is not None and int(match["index"]):
        if target is not None and match["target"] != target:
            raise _refusal(f"requested target '{match['target']}' does not match target '{target}'")
        index = int(match["index"])
        for number in range(first, len(chain)):
            if chain[number].index == index:
                return number
        raise _refusal(f"could not find backing store index '{index}' in chain for '{start}'")
    if name is None:
        if first < len(chain):
            return len(chain) - 1
        raise _refusal(f"could not find base image in chain for '{start}'")
    for number in range(first, len(chain)):
        path = chain[number].path
        parent = chain[number - 1].path if number else None
        if path is not None and path in (name, os.path.join(os.path.dirname(parent or ""), name)):  # noqa: PTH118, PTH120 - names of images are no paths of this process
            return number
    if below is not None:
        raise _refusal(
            f"could not find image '{name}' beneath '{chain[below].path}' in chain for '{start}'"
        )
    raise _refusal(f"could not find image '{name}' in chain for '{start}'")


def _refusal(message: str) -> HvError:
    return HvError(message, kind=ErrorClass.INVALID_ARG)
