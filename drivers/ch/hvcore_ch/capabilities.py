"""What a cloud-hypervisor binary can do: names by version and by the features of its build."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.capabilities import Capabilities
from hvcore.capabilities import join_version
from hvcore.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.probecache import Sections

OLDEST: Final = join_version(51, 0)
"""The first version that is told what kind of image a disk is; older ones guess it from what the
guest wrote there (GHSA-jmr4-g2hv-mjj6)."""

SINCE: Final[Mapping[str, int]] = {
    "numa.device_id": join_version(51, 0),
    "generic-vhost-user": join_version(52, 0),
    "iommufd": join_version(52, 0),
    "smbios-system": join_version(53, 0),
    "migration-returns-at-once": join_version(53, 0),
}
"""Capabilities that a version brings, whatever it was built with."""

BUILT: Final[Mapping[str, str]] = {
    "kvm": "kvm",
    "mshv": "mshv",
    "guest_debug": "coredump",
    "sev_snp": "sev-snp",
    "tdx": "tdx",
    "igvm": "igvm",
}
"""Features of a build, as vmm.ping tells them, and the capabilities they are."""

LANDLOCK: Final = "landlock"
"""The kernel of the host can confine the process to the files it was given."""

_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


@attrs.frozen(slots=True, kw_only=True)
class ChCapabilities(Capabilities):
    """Of one binary.

    :param build: how the build calls itself, such as ``v53.0-dirty``.
    :param features: what it was built with, as vmm.ping tells it.
    """

    build: str = ""
    features: tuple[str, ...] = ()

    def to_sections(self) -> dict[str, Any]:
        """Return what :meth:`from_sections` reads."""
        return {
            "names": sorted(self.names),
            "arch": self.arch,
            "version": self.version,
            "build": self.build,
            "features": list(self.features),
        }

    @classmethod
    def from_sections(cls, sections: Sections) -> ChCapabilities:
        """Return the capabilities that were kept."""
        return cls(
            names=frozenset(sections["names"]),
            arch=sections["arch"],
            version=sections["version"],
            build=sections["build"],
            features=tuple(sections["features"]),
        )


def parse_version(text: str) -> int:
    """Return ``v53.0`` or ``53.0.0`` as libvirt's single number.

    :raises ProbeError: it is none.

    >>> parse_version("v53.0-dirty")
    53000000
    """
    found = _VERSION.match(text)
    if found is None:
        raise ProbeError(f"Unable to parse cloud-hypervisor version: {text}")
    major, minor, micro = (int(part or 0) for part in found.groups())
    return join_version(major, minor, micro)


def conclude(ping: Mapping[str, Any], *, arch: str, landlock: bool) -> ChCapabilities:
    """Return the capabilities of a binary that answered ``ping`` to vmm.ping.

    :param landlock: the host's kernel has it.
    :raises ProbeError: it is too old, or its answer is of another schema.
    """
    try:
        version = parse_version(ping["version"])
        build = str(ping.get("build_version", ping["version"]))
        features = tuple(str(name) for name in ping.get("features", ()))
    except (KeyError, TypeError, AttributeError) as error:
        raise ProbeError(f"cloud-hypervisor answered vmm.ping in another schema: {ping}") from error
    if version < OLDEST:
        raise ProbeError(
            f"Cloud-Hypervisor version is too old (v{OLDEST // 1_000_000}.0 is the minimum "
            "supported version)",
            hint=f"{build} was found",
        )
    names = {name for name, since in SINCE.items() if version >= since}
    names |= {BUILT[name] for name in features if name in BUILT}
    if landlock:
        names.add(LANDLOCK)
    return ChCapabilities(
        names=frozenset(names), arch=arch, version=version, build=build, features=features
    )
