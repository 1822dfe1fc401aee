"""A fake cloud-hypervisor: a process with v53's API, states and manners, and no guest.

It serves the real program's HTTP API on a unix socket, takes its command line, writes its events
and ends as it does. Its guest is a polite one that gives devices back, and does what `faults` says
otherwise. Nothing is kept in files; the kernels and images that are named must exist, but are
not read::

    from hvcore.testing import fake_ch

    binary = fake_ch.install(tmp_path)           # tmp_path/cloud-hypervisor
    fake_ch.set_faults(tmp_path, {"unplug": "ignore"})

Only the standard library is used, and it starts in some ten milliseconds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hvcore.testing.fake_ch.api import InvalidRequest
from hvcore.testing.fake_ch.api import document
from hvcore.testing.fake_ch.api import validate_request

__all__ = ["InvalidRequest", "document", "install", "set_faults", "validate_request"]

_SCRIPT = """\
#!{python} -IS
import os
import sys

sys.path.insert(0, {root!r})
os.environ.setdefault("HVCORE_FAKE_CH_FAULTS", {faults!r})

from hvcore.testing.fake_ch.process import main

sys.exit(main())
"""


def install(directory: Path | str) -> Path:
    """Write an executable `cloud-hypervisor` into a directory; return its path.

    It needs no environment: it finds the settings of `set_faults` beside itself, unless the
    variable `HVCORE_FAKE_CH_FAULTS` says otherwise.
    """
    folder = Path(directory)
    binary = folder / "cloud-hypervisor"
    root = Path(__file__).resolve().parents[3]
    text = _SCRIPT.format(
        python=sys.executable, root=str(root), faults=str(_settings(folder).absolute())
    )
    binary.write_text(text)
    binary.chmod(0o700)
    return binary


def set_faults(directory: Path | str, settings: dict[str, Any]) -> None:
    """Set what the program installed in the directory does wrong, also while it runs.

    The settings are those of `hvcore.testing.fake_ch.faults`; they replace the earlier ones.
    """
    new = _settings(Path(directory)).with_suffix(".new")
    new.write_text(json.dumps(settings))
    new.replace(_settings(Path(directory)))


def _settings(directory: Path) -> Path:
    return directory / "cloud-hypervisor.faults.json"
