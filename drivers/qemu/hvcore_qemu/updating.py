"""Changes of devices of a running QEMU: media, links, passwords and sizes, without any I/O.

What else differs from the device that is there is refused. Sources: ``qemuDomainChangeDiskLive``,
``qemuDomainChangeNet``, ``qemuDomainChangeGraphics`` and ``qemuDomainChangeMemoryLive`` of
libvirt's qemu_hotplug.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import MonitorError
from hvcore.errors import Unsupported
from hvcore.rules import hotplug
from hvcore_qemu.command import present
from hvcore_qemu.devices.graphics import passwords
from hvcore_qemu.plugging import alone

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Generator
    from collections.abc import Mapping

    from hvcore.model.devices.disk import Disk
    from hvcore_qemu.attaching import Attaching
    from hvcore_qemu.monitor import Command as MonitorCommand
    from hvcore_qemu.plugging import Call
    from hvcore_qemu.plugging import Plug

TRAY_PATIENCE: Final = 5
"""How often a guest is asked for a tray that it keeps locked."""


@attrs.define(eq=False)
class Update:
    """A change that is to be made.

    :ivar alias: of the device.
    :ivar steps: talk to QEMU, and change the definition when all went well.
    :ivar behind: what has to go after the device from then on; None for what it was.
    """

    alias: str | None
    steps: Callable[[], Generator[MonitorCommand, Any, None]]
    behind: list[Call] | None = None

    def run(self) -> Generator[MonitorCommand, Any, None]:
        """Make the change."""
        yield from self.steps()


def _nothing() -> Generator[MonitorCommand, Any, None]:
    yield from ()


def _unsupported(message: str) -> HvError:
    return HvError(message, kind=ErrorClass.OPERATION_UNSUPPORTED)


def plan(work: Attaching, data: Mapping[str, Any], *, force: bool) -> Update:
    """Return what changes a device of the running definition to ``work.device``.

    :param data: what the driver kept when the guest was started and devices were plugged.
    :param force: open a tray that the guest keeps locked.
    :raises HvError: something differs that cannot be changed.
    """
    family = hotplug.family_of(work.live, work.device)
    change = _CHANGES.get(family.members)
    if change is None:
        raise hotplug.unsupported("update", family.name, live=True)
    return change(work, data, force)


# -- disks -----------------------------------------------------------------------------------------

_FIXED: Final = (
    # field, libvirt's name of it; what is not given is as it was
    ("tray", "tray"),
    ("removable", "removable"),
    ("serial", "serial"),
    ("wwn", "wwn"),
    ("vendor", "vendor"),
    ("product", "product"),
    ("cache", "cache"),
    ("error_policy", "error_policy"),
    ("rerror_policy", "rerror_policy"),
    ("io", "io"),
    ("ioeventfd", "ioeventfd"),
    ("event_idx", "event_idx"),
    ("copy_on_read", "copy_on_read"),
    ("discard_no_unref", "discard_no_unref"),
    ("transient", "transient"),
    ("boot_order", "boot order"),
    ("rawio", "rawio"),
    ("sgio", "sgio"),
    ("discard", "discard"),
    ("iothread", "iothread"),
    ("backenddomain", "backenddomain"),
    ("readonly", "readonly"),
    ("shareable", "shared"),
)


def _check_disk(new: Disk, old: Disk) -> None:
    def refuse(what: str) -> None:
        raise _unsupported(f"cannot modify field '{what}' of the disk")

    for name in ("device", "bus"):
        if getattr(new, name) != getattr(old, name):
            refuse(name)
    for name in ("logical_block_size", "physical_block_size", "discard_granularity"):
        if (getattr(new, name) or 0) != (getattr(old, name) or 0):
            refuse(f"blockio {name}")
    for name, what in _FIXED:
        value = getattr(new, name)
        if value and value != getattr(old, name):
            refuse(what)
    if new.iotune is not None and new.iotune != old.iotune:
        refuse("blkdeviotune")
    if not hotplug.same_address(new, old):
        refuse("address")


def _disk(work: Attaching, data: Mapping[str, Any], force: bool) -> Update:
    new: Any = work.device
    old = next((each for each in work.live.devices.disks if each.target == new.target), None)
    if old is None:
        raise HvError(f"disk '{new.target}' not found")
    hotplug.check_compatible(work.live, new, old, live=True, attach=False)
    _check_disk(new, old)
    if _same_medium(new, old):

        def settle() -> Generator[MonitorCommand, Any, None]:
            yield from ()
            _take_policy(old, new)

        return Update(old.alias, settle)
    if old.device not in ("cdrom", "floppy"):
        raise Unsupported("disk source can be changed only in removable drives")
    new.alias, new.address = old.alias, old.address
    behind = data.get("behind", {}).get(old.alias, [])
    plug = work.plug(hotplug.family_of(work.live, new))
    steps = [step for step in plug.steps if step.command != "device_add"]
    plug.steps = steps

    def change() -> Generator[MonitorCommand, Any, None]:
        yield from _change_medium(old, plug, behind, force=force)
        old.type, old.source, old.format = new.type, new.source, new.format
        old.backing_store = new.backing_store
        _take_policy(old, new)

    return Update(old.alias, change, plug.behind)


def _same_medium(new: Disk, old: Disk) -> bool:
    if new.empty or old.empty:
        return new.empty and old.empty
    names = ("path", "dev", "pool", "volume", "name", "protocol", "hosts")
    return type(new.source) is type(old.source) and all(
        getattr(new.source, name, None) == getattr(old.source, name, None) for name in names
    )


def _take_policy(old: Disk, new: Disk) -> None:
    """Let the disk have what may be changed at any time."""
    old.snapshot = new.snapshot
    policy = getattr(new.source, "startup_policy", None)
    if old.source is not None and hasattr(old.source, "startup_policy"):
        old.source.startup_policy = policy


def _change_medium(
    old: Disk, plug: Plug, behind: list[Any], *, force: bool
) -> Generator[MonitorCommand, Any, None]:
    """Open the tray, replace what is in it, and close it."""
    name = {"id": old.alias}
    if old.tray != "open":
        yield "blockdev-open-tray", {**name, "force": force}
    yield from _removed_medium(name, force=force)
    for call, arguments in behind:
        yield call, dict(arguments)
    yield from plug.run()
    node = next((step for step in reversed(plug.steps) if step.command == "blockdev-add"), None)
    if node is not None:
        top = node.arguments["node-name"]
        yield "blockdev-insert-medium", {**name, "node-name": top}
    yield "blockdev-close-tray", name


def _removed_medium(
    name: Mapping[str, Any], *, force: bool
) -> Generator[MonitorCommand, Any, None]:
    """Take the medium out; a guest that locks the tray is asked, and needs a moment."""
    for attempt in range(1, TRAY_PATIENCE + 1):
        try:
            yield "blockdev-remove-medium", name
        except MonitorError:
            if attempt == TRAY_PATIENCE:
                raise
            yield "blockdev-open-tray", {**name, "force": force}
        else:
            return


# -- interfaces ------------------------------------------------------------------------------------

_NIC: Final = (
    # fields, what is said when one of them differs
    (("model",), "cannot modify network device model from {old.model} to {new.model}"),
    (
        ("driver", "txmode", "ioeventfd", "event_idx", "queues", "rx_queue_size", "tx_queue_size"),
        "cannot modify virtio network device driver attributes",
    ),
    (("script", "downscript"), "cannot modify network device script attribute"),
    (("rom_bar",), "cannot modify network device rom bar setting"),
    (("rom_file",), "cannot modify network rom file"),
    (("boot_order",), "cannot modify network device boot index setting"),
    (("rom_enabled",), "cannot modify network device rom enabled setting"),
    (("mtu",), "cannot modify MTU"),
    (
        ("backend", "backend_tap", "backend_vhost"),
        "cannot modify network device backend settings",
    ),
)
_WIRING: Final = (
    "type", "source", "virtualport", "vlan", "bandwidth", "filter", "isolated", "rx_frames",
    "trust_guest_rx_filters", "sndbuf",
)  # fmt: skip
"""What the host's end is; none of it can be changed yet."""


def _interface(work: Attaching, data: Mapping[str, Any], force: bool) -> Update:
    del data, force
    new: Any = work.device
    old = hotplug.find(work.live, new, live=True)
    hotplug.check_compatible(work.live, new, old, live=True, attach=False)
    if old.type == "hostdev":
        raise _unsupported(f"cannot change config of '{old.type}' network interface type")
    for names, message in _NIC:
        if any(getattr(new, name) != getattr(old, name) for name in names):
            raise _unsupported(message.format(old=old, new=new))
    if new.target is not None and new.target != old.target:
        raise _unsupported("cannot modify network device tap name")
    if not hotplug.same_address(new, old):
        raise _unsupported("cannot modify network device guest PCI address")
    if new.type == "hostdev":
        raise _unsupported(f"cannot change network interface type to '{new.type}'")
    if any(not _same_wiring(name, new, old) for name in _WIRING):
        raise _unsupported(f"unable to change config on '{old.type}' network type")

    def change() -> Generator[MonitorCommand, Any, None]:
        if new.link != old.link:
            yield "set_link", {"name": old.alias, "up": new.link != "down"}
            old.link = new.link

    return Update(old.alias, change)


def _same_wiring(name: str, new: Any, old: Any) -> bool:
    mine, other = getattr(new, name), getattr(old, name)
    if name != "source" or mine is None or other is None:
        return bool(mine == other)
    # Of a network, what became of the port is only known of the running one.
    names = [f.name for f in attrs.fields(type(mine)) if getattr(mine, f.name) is not None]
    return type(mine) is type(other) and all(
        getattr(mine, each) == getattr(other, each) for each in names
    )


# -- graphics --------------------------------------------------------------------------------------


def _graphics(work: Attaching, data: Mapping[str, Any], force: bool) -> Update:
    del data, force
    new: Any = work.device
    old = next((each for each in work.live.devices.graphics if each.type == new.type), None)
    if old is None:
        raise hotplug.missing(
            f"cannot find existing graphics device to modify of type '{new.type}'"
        )
    hotplug.check_compatible(work.live, new, old, live=True, attach=False)
    if not hasattr(new, "listens"):
        raise HvError(f"unable to change config on '{new.type}' graphics type")
    _check_listens(new, old)
    _check_port(new, old)
    now = ("password_valid_to", "connected", "password")
    same = all(getattr(new, name) == getattr(old, name) for name in now)
    if same and new.password_valid_to is None and new.connected != "disconnect":
        return Update(old.alias, _nothing)
    view = alone(work.live, "", None)
    view.devices.graphics = [new]

    def change() -> Generator[MonitorCommand, Any, None]:
        yield from passwords(view, work.ctx.config, work.resources.launch_time)
        for name in now:
            setattr(old, name, getattr(new, name))

    return Update(old.alias, change)


def _check_listens(new: Any, old: Any) -> None:
    if len(new.listens) != len(old.listens):
        raise _unsupported(f"cannot change the number of listen addresses on '{new.type}' graphics")
    for mine, other in zip(new.listens, old.listens, strict=True):
        if mine.type != other.type:
            raise _unsupported(f"cannot change the type of listen address on '{new.type}' graphics")
        key = {"address": "address", "network": "network", "socket": "socket"}.get(mine.type)
        if key is not None and getattr(mine, key) != getattr(other, key):
            what = "listen socket" if key == "socket" else "listen address"
            raise _unsupported(f"cannot change {what} setting on '{new.type}' graphics")


def _check_port(new: Any, old: Any) -> None:
    ports = [name for name in ("port", "tls_port") if hasattr(new, name)]
    moved = any((getattr(new, name) or 0) != (getattr(old, name) or 0) for name in ports)
    if bool(new.autoport) != bool(old.autoport) or (not new.autoport and moved):
        raise _unsupported(f"cannot change port settings on {new.type} graphics")
    if getattr(new, "keymap", None) != getattr(old, "keymap", None):
        raise _unsupported(f"cannot change keymap setting on {new.type} graphics")


# -- memory ----------------------------------------------------------------------------------------

_MEMORY: Final = (
    ("model", "model from '{old.model}' to '{new.model}'"),
    ("access", "access from '{old.access}' to '{new.access}'"),
    ("discard", "discard from '{old.discard}' to '{new.discard}'"),
    ("nodemask", "source nodes"),
    ("page_size", "pagesize from '{old.page_size}' to '{new.page_size}'"),
    ("node", "targetNode from '{old.node}' to '{new.node}'"),
    ("size", "size from '{old.size}' to '{new.size}'"),
    ("block_size", "block size from '{old.block_size}' to '{new.block_size}'"),
)


def _memory(work: Attaching, data: Mapping[str, Any], force: bool) -> Update:
    del data, force
    new: Any = work.device
    members = work.live.devices.memories
    old: Any = next((each for each in members if hotplug.same_place(new, each)), None)
    if old is None:
        raise hotplug.missing(f"memory '{new.model}' not found")
    hotplug.check_compatible(work.live, new, old, live=True, attach=False)
    if old.model != "virtio-mem":
        raise Unsupported(f"cannot modify memory of model '{old.model}'")
    for name, what in _MEMORY:
        if getattr(new, name) != getattr(old, name):
            raise Unsupported(f"cannot modify memory {what.format(old=old, new=new)}")

    def change() -> Generator[MonitorCommand, Any, None]:
        size = (new.requested_size or 0) * 1024
        path = f"/machine/peripheral/{old.alias}"
        yield "qom-set", present({"path": path, "property": "requested-size", "value": size})
        old.requested_size = new.requested_size

    return Update(old.alias, change)


_CHANGES: Final[Mapping[str, Callable[[Attaching, Mapping[str, Any], bool], Update]]] = {
    "disks": _disk,
    "interfaces": _interface,
    "graphics": _graphics,
    "memories": _memory,
}
