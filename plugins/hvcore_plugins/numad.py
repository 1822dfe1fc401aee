"""Placement by numad: the daemon that watches the load of the host's NUMA nodes is asked once.

Another advisor is another plugin with the same hook; ``HVCORE_DISABLE_PLUGINS=numad`` makes room.
"""

from __future__ import annotations

from typing import Final

from hvcore.plugin import DriverError
from hvcore.plugin import ErrorClass
from hvcore.plugin import NodeSet
from hvcore.plugin import hookimpl

PATIENCE: Final = 60
"""Seconds for an answer; numad measures the load of all nodes first."""


@hookimpl
def hv_advise_placement(vcpus: int, memory: int) -> NodeSet:
    """Return the nodes that ``numad -w`` advises.

    :raises DriverError: it cannot be run, fails, or answers with something else than a set.
    """
    import subprocess  # noqa: PLC0415 - plugins are imported by every program

    try:
        answer = subprocess.run(
            ["numad", "-w", f"{vcpus}:{memory}"],
            stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=PATIENCE,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise DriverError(
            "Failed to query numad for the advisory nodeset",
            kind=ErrorClass.OPERATION_FAILED,
            hint=f"numad: {error}",
        ) from error
    text = answer.decode("ascii", "replace")
    try:
        return NodeSet.parse(text)
    except ValueError as error:
        raise DriverError(str(error), kind=ErrorClass.INVALID_ARG) from error
