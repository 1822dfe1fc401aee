"""What a test host is and which domains it starts out with: libvirt's files for its test driver.

A file has ``<domain>`` elements, each a document of its own or the name of a file with one, and
says what CPUs and memory the host has. Elements in the namespace of the test driver say what a
domain is doing. Source: ``testOpenParse`` of libvirt's test_driver.c. Networks, storage and devices
of the host are read by nobody yet.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs
from lxml import etree

from hvcore.driver import Initial
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import XmlSyntaxError
from hvcore.hostinfo import HostInfo
from hvcore.hostinfo import HostThread
from hvcore.hostinfo import NodeInfo
from hvcore.hostinfo import NumaCell
from hvcore.hostinfo import Pages
from hvcore.lifecycle import State
from hvcore.xml.reader import read
from hvcore.xml.reader import read_file

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

NAMESPACE: Final = "{http://libvirt.org/schemas/domain/test/1.0}"

DEFAULT: Final = """\
<domain type='test'>
  <name>test</name>
  <uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
  <memory>8388608</memory>
  <currentMemory>2097152</currentMemory>
  <vcpu>2</vcpu>
  <os>
    <type>hvm</type>
  </os>
  <devices>
    <disk type='file' device='disk'>
      <source file='/guest/diskimage1'/>
      <target dev='vda' bus='virtio'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </disk>
    <interface type='network'>
      <mac address='aa:bb:cc:dd:ee:ff'/>
      <source network='default' bridge='virbr0'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x1' function='0x0'/>
    </interface>
    <memballoon model='virtio'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x2' function='0x0'/>
    </memballoon>
  </devices>
</domain>
"""
"""The domain that libvirt's driver starts out with."""

INFO: Final = NodeInfo(
    model="i686", memory=3145728, cpus=16, mhz=1400, cells=2, sockets=2, cores=2, threads=2
)
"""What libvirt's driver says its host is."""

_THREADS: Final = tuple(
    HostThread(
        number,
        socket=number // 4 % 2,
        core=number // 2 % 2,
        siblings=(number - number % 2, number - number % 2 + 1),
    )
    for number in range(16)
)

HOST: Final = HostInfo(
    arch="i686",
    memory=INFO.memory,
    cpu_mhz=INFO.mhz,
    page_sizes=(4, 2048, 1048576),
    cells=tuple(
        NumaCell(
            id=number,
            memory=INFO.memory // 2,
            pages=(Pages(4, INFO.memory // 8), Pages(2048, 0), Pages(1048576, 0)),
            cpus=_THREADS[number * 8 : number * 8 + 8],
            distances=((number, 10), (1 - number, 20)),
        )
        for number in range(2)
    ),
)
"""The same for the rules."""


@attrs.frozen
class Node:
    """A host that exists only for a test."""

    info: NodeInfo
    domains: tuple[Initial, ...]


def default() -> Node:
    """Return the host of ``test:///default``."""
    return Node(INFO, (Initial(DEFAULT, State.RUNNING),))


def load(path: str) -> Node:
    """Return the host that a file describes.

    :raises HvError: the file, or one that it names, cannot be read.
    :raises XmlSyntaxError: it is not acceptable.
    """
    root = read(read_file(path), "node", source=path)
    domains = tuple(_domain(element, path) for element in root.iterfind("domain"))
    return Node(_info(root), domains)


def _info(root: XmlElement) -> NodeInfo:
    names = {"mhz": "mhz", "cells": "nodes", "sockets": "sockets", "cores": "cores"}
    found: dict[str, Any] = {
        name: _number(root, f"cpu/{tag}", getattr(INFO, name)) for name, tag in names.items()
    }
    found["threads"] = _number(root, "cpu/threads", INFO.threads)
    possible = found["cells"] * found["sockets"] * found["cores"] * found["threads"]
    return NodeInfo(
        model=root.findtext("cpu/model") or INFO.model,
        memory=_number(root, "memory", INFO.memory),
        cpus=min(_number(root, "cpu/active", possible), possible),
        **found,
    )


def _number(root: XmlElement, path: str, default: int) -> int:
    text = root.findtext(path)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise XmlSyntaxError(f"invalid node {path.replace('/', ' ')} value", kind=ErrorClass.XML)
    return int(text)


def _domain(element: XmlElement, path: str) -> Initial:
    """Return a domain of a file, without what only the test driver understands."""
    name = element.get("file")
    if name is not None:
        path = str(PurePosixPath(os.path.dirname(path), name))  # noqa: PTH120 - text, not I/O
        element = read(read_file(path), "domain", source=path)
    state = _state(element)
    transient = element.find(f"{NAMESPACE}transient") is not None
    if transient and state is State.SHUTOFF:
        raise _refused("transient domain cannot have runstate 'shutoff'")
    if element.find(f"{NAMESPACE}hasmanagedsave") is not None and state is not State.SHUTOFF:
        raise _refused("domain with managedsave data can only have runstate 'shutoff'")
    for child in list(element):
        if isinstance(child.tag, str) and child.tag.startswith(NAMESPACE):
            element.remove(child)
    xml: str = etree.tostring(element, encoding="unicode")
    return Initial(xml, state, persistent=not transient)


def _state(element: XmlElement) -> State:
    text = element.findtext(f"{NAMESPACE}runstate")
    if text is None:
        return State.RUNNING
    if not (text.isascii() and text.isdigit()):
        raise _refused("invalid runstate")
    for state in State:
        if state == int(text):
            return state
    raise _refused(f"runstate '{text}' out of range'")


def _refused(message: str) -> HvError:
    return XmlSyntaxError(message, kind=ErrorClass.XML)
