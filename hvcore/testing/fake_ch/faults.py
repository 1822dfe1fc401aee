"""What a test asks the fake to do wrong, and how its guest behaves.

The environment variable `HVCORE_FAKE_CH_FAULTS` holds the settings as JSON, or the path of a file
that holds them; the file is read again at every request, so that a test can change its mind.

`requests`
    endpoint -> what happens instead of an answer: `"hang"` (never answered, as is everything
    after it), `"half"` (half of the answer, then the connection is closed), `"garbage"` (no HTTP),
    `"close"`, `"die"` (killed before doing it), `"die-after"` (killed after doing it, unanswered),
    or `{"status": 500, "body": ["..."]}`, whose body is any JSON. An object may also say
    `"do": "hang"`, `"skip": 1` (the first one works) and `"times": 1` (only one fails).
`version`, `build_version`, `features`
    what vmm.ping says; `features` also decides which members and endpoints exist.
`unplug`
    `"eject"` (the guest gives the device back after `guest_delay`), `"ignore"` (it never does) or
    `"refuse"` (vm.remove-device fails).
`guest_delay`
    seconds that the guest takes to react to anything; 0.02 unless said.
`power_button`
    `"shutdown"` or `"ignore"`.
`files`
    `"check"` (kernels, images and sockets must exist, as for the real program) or `"assume"`.
`vhost_user_timeout`
    seconds that a vhost-user socket that nobody serves is waited for, during which nothing else
    is answered; 60 for the real program, 1 here.
`migration`
    `"work"`, `"fail"` (the sender's side fails while sending) or `"hang"`.
`migration_seconds`
    how long sending takes.
`drop`
    names to leave out of the answer of vm.info, as another version would.
`guest`
    read when the process gets SIGUSR1: `"poweroff"`, `"reset"` or `"panic"`, what the guest does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from typing import Final

VARIABLE: Final = "HVCORE_FAKE_CH_FAULTS"

DEFAULTS: Final[dict[str, Any]] = {
    "requests": {},
    "version": "53.0.0",
    "build_version": "v53.0",
    "features": ["io_uring", "kvm"],
    "unplug": "eject",
    "guest_delay": 0.02,
    "power_button": "shutdown",
    "files": "check",
    "vhost_user_timeout": 1.0,
    "migration": "work",
    "migration_seconds": 0.0,
    "drop": [],
    "guest": "poweroff",
}


class Faults:
    """The settings; read again whenever they are asked for."""

    def __init__(self, source: str | None = None) -> None:
        self._source = os.environ.get(VARIABLE, "") if source is None else source
        self._seen: dict[str, int] = {}

    def read(self) -> dict[str, Any]:
        """Return the settings of this moment.

        :raises ValueError: for a setting that does not exist
        """
        text = self._source
        if text and not text.lstrip().startswith("{"):
            path = Path(text)
            text = path.read_text() if path.exists() else ""
        given = json.loads(text) if text.strip() else {}
        unknown = set(given) - set(DEFAULTS)
        if unknown:
            raise ValueError(f"unknown settings of the fake cloud-hypervisor: {sorted(unknown)}")
        return {**DEFAULTS, **given}

    def __getitem__(self, name: str) -> Any:
        return self.read()[name]

    def of_request(self, endpoint: str) -> dict[str, Any] | None:
        """Return what shall happen instead of this request, and count the request."""
        fault = self["requests"].get(endpoint)
        if fault is None:
            return None
        if isinstance(fault, str):
            fault = {"do": fault}
        seen = self._seen[endpoint] = self._seen.get(endpoint, 0) + 1
        skip = fault.get("skip", 0)
        if seen <= skip or seen > skip + fault.get("times", seen):
            return None
        return {"do": "answer", **fault}
