"""Sound backends: which a guest gets, what is refused, and how QEMU is told."""

from __future__ import annotations

import itertools
import json

import attrs
import pytest

from hvcore.capabilities import Deferred
from hvcore.errors import HvError
from hvcore.pipeline import Context
from hvcore.registry import Registry
from hvcore_qemu import launch
from hvcore_qemu.capabilities import Accelerator
from hvcore_qemu.capabilities import CpuModel
from hvcore_qemu.capabilities import Machine
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.pretend import PretendHost

REGISTRY = Registry()
REGISTRY.freeze()
PIPELINE = launch.pipeline(REGISTRY)
TCG = Accelerator(
    deferred_machines=Deferred.of(
        (Machine("pc-i440fx-6.2", default_cpu="q-cpu", default_ram_id="pc.ram", acpi=True),)
    ),
    deferred_cpus=Deferred.of((CpuModel("qemu64", "q-cpu", usable=True),)),
)
CAPS = QemuCapabilities(
    binary="/q",
    arch="x86_64",
    version=10000002,
    names=frozenset(
        {"tcg", "device.json+hotplug", "hda-duplex", "usb-kbd", "piix3-usb-uhci", "vnc", "spice",
         "VGA", "sdl", "egl-headless", "display-dbus"}
    ),
    accelerators={"tcg": TCG},
)  # fmt: skip
VNC, SDL, SPICE = (f"<graphics type='{kind}'/>" for kind in ("vnc", "sdl", "spice"))
CARD = "<sound model='ich6'/>"
HEADLESS = "<graphics type='egl-headless'/>"
NO_VIDEO = "<video><model type='none'/></video>"


def define(devices, *, caps=CAPS, environ=None, **settings):
    video = NO_VIDEO if "<graphics" in devices else ""
    document = (
        "<domain type='qemu'><name>g</name><memory>1024</memory><os>"
        "<type arch='x86_64' machine='pc-i440fx-6.2'>hvm</type></os>"
        "<devices><emulator>/q</emulator><controller type='usb' model='none'/>"
        f"<memballoon model='none'/>{devices}{video}</devices></domain>"
    )
    ctx = Context(
        registry=REGISTRY,
        driver="qemu",
        caps=caps,
        config=QemuConfig(**settings),
        abi_update=True,
        environ=environ or {},
    )
    return PIPELINE.define(document, ctx), ctx


def backends(devices, **how):
    return [(a.id, a.type, a.driver) for a in define(devices, **how)[0].domain.devices.audios]


def started(devices, **how):
    definition, ctx = define(devices, **how)
    return launch.plan_start(definition.clone(), ctx, PretendHost())


def audiodevs(plan):
    argv = plan.argv
    return [json.loads(v) for o, v in itertools.pairwise(argv) if o == "-audiodev"]


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ("", "none"),
        (CARD, "none"),
        (VNC, "none"),
        (SPICE, "spice"),
        # The last display that has an opinion decides.
        (VNC + SPICE, "spice"),
        (SPICE + VNC, "none"),
        (SPICE + HEADLESS, "spice"),
    ],
)
def test_guests_without_audio_get_a_backend(devices, expected):
    assert backends(devices) == [(1, expected, None)]


def test_displays_without_an_opinion_bring_none():
    assert backends(HEADLESS) == []


def test_a_backend_that_is_there_is_enough():
    assert backends("<audio id='7' type='alsa'/>" + VNC) == [(7, "alsa", None)]


@pytest.mark.parametrize(
    ("devices", "setting"),
    [("", "nographics_allow_host_audio"), (VNC, "vnc_allow_host_audio"), (SDL, None)],
)
@pytest.mark.parametrize(
    ("value", "expected"),
    [("alsa", "alsa"), ("pa", "pulseaudio"), ("wav", "file"), ("pulseaudio", "pulseaudio")],
)
def test_the_hosts_sound_is_what_the_environment_says(devices, setting, value, expected):
    settings = {} if setting is None else {setting: True}
    environ = {"QEMU_AUDIO_DRV": value}
    assert backends(devices, environ=environ, **settings) == [(1, expected, None)]
    # Without the setting nobody asks for it.
    if setting is not None:
        assert backends(devices, environ=environ) == [(1, "none", None)]
        assert backends(devices, **settings) == []


def test_names_that_mean_nothing_are_refused():
    with pytest.raises(HvError) as refusal:
        backends(SDL, environ={"QEMU_AUDIO_DRV": "bogus"})
    assert str(refusal.value) == "unsupported configuration: unknown QEMU_AUDIO_DRV setting bogus"
    with pytest.raises(HvError) as refusal:
        backends(SDL, environ={"QEMU_AUDIO_DRV": "sdl", "SDL_AUDIODRIVER": "kazoo"})
    assert str(refusal.value) == "unsupported configuration: unknown SDL_AUDIODRIVER setting kazoo"


def test_sdl_has_a_driver_of_its_own():
    environ = {"QEMU_AUDIO_DRV": "sdl", "SDL_AUDIODRIVER": "alsa"}
    assert backends(SDL, environ=environ) == [(1, "sdl", "alsa")]
    plan = started(SDL, environ=environ)
    assert plan.env["SDL_AUDIODRIVER"] == "alsa"
    assert audiodevs(plan) == [{"id": "audio1", "driver": "sdl"}]


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ("<audio id='1' type='none'/>" * 2, "XML error: audio ID 1 is used multiple times"),
        (
            "<sound model='ich6'><audio id='3'/></sound><audio id='1' type='none'/>",
            "XML error: no audio device with ID 3",
        ),
    ],
)
def test_backends_are_told_apart(devices, message):
    with pytest.raises(HvError) as refusal:
        define(devices)
    assert str(refusal.value) == message


@pytest.mark.parametrize("devices", [CARD, VNC])
def test_a_card_without_a_backend_is_refused_at_start(devices):
    allowed = {"nographics_allow_host_audio": True, "vnc_allow_host_audio": True}
    define(devices, **allowed)
    with pytest.raises(HvError) as refusal:
        started(devices, **allowed)
    assert str(refusal.value) == ("internal error: unable to find audio backend for sound device")


def test_every_backend_is_an_audiodev_that_devices_name():
    plan = started(
        "<sound model='ich6'><audio id='2'/></sound><audio id='1' type='none'/>"
        "<audio id='2' type='file' path='/tmp/a,b.wav'/>" + VNC
    )
    assert audiodevs(plan) == [
        {"id": "audio1", "driver": "none"},
        {"id": "audio2", "driver": "wav", "path": "/tmp/a,b.wav"},
    ]
    assert "QEMU_AUDIO_DRV" not in plan.env
    argv = plan.argv
    assert argv[argv.index("-vnc") + 1].endswith(",audiodev=audio1")
    (codec,) = (json.loads(word) for word in argv if '"hda-duplex"' in word)
    assert codec["audiodev"] == "audio2"


def test_emulators_without_audiodev_read_the_environment():
    plan = started(CARD + VNC, caps=attrs.evolve(CAPS, version=3001000))
    assert plan.env["QEMU_AUDIO_DRV"] == "none"
    assert not [word for word in plan.argv if "audiodev" in word]
