"""x86 CPU models: finding the closest one, comparing, and expressing one by another."""

from __future__ import annotations

import pytest

from hvcore.cpu import x86
from hvcore.cpu.spec import CpuSpec
from hvcore.errors import HvError
from hvcore_qemu.capabilities import CpuModel

KNOWN = x86.cpu_map()


def data(model: str, *more: str, without: tuple[str, ...] = ()) -> x86.CpuData:
    """Return what a processor that is ``model`` tells of itself."""
    found = KNOWN.model(model)
    assert found is not None
    bits = (found.bits | KNOWN.bits_of(more)) & ~KNOWN.bits_of(without)
    first = found.signatures[0]
    signature = (first.family, first.model, next(iter(first.steppings or ()), 0))
    return x86.CpuData(bits=bits, vendor=found.vendor, signature=signature)


def test_every_model_describes_itself_best_among_those_of_its_kind() -> None:
    wrong = []
    for name in KNOWN.names():
        model = KNOWN.model(name)
        assert model is not None
        if model.decode_guest and model.signatures:
            found = x86.decode(data(name), models={name: CpuModel(name)})
            # Some processors have transactional memory that does not work.
            expected = {*model.removed, "hle", "rtm"}
            wrong += [name] if found.features.keys() - expected else []
    assert wrong == []


def test_differences_are_told_as_features() -> None:
    found = x86.decode(data("Skylake-Client", "vmx", without=("rtm",)))
    assert found.vendor == "Intel"
    assert found.features["vmx"] == "require"
    assert "rtm" not in found.features or found.features["rtm"] == "disable"


def test_a_model_the_hypervisor_lacks_is_not_chosen() -> None:
    models = {name: CpuModel(name) for name in ("Nehalem", "Penryn")}
    assert x86.decode(data("Haswell"), models=models).model in models
    with pytest.raises(HvError, match="Cannot find suitable CPU model"):
        x86.decode(data("Haswell"), models={})


def test_features_that_block_a_model_are_disabled() -> None:
    models = {"Haswell": CpuModel("Haswell", usable=False, blockers=("avx",))}
    found = x86.decode(data("Haswell", without=("avx",)), models=models)
    assert found.features["avx"] == "disable"


def test_a_host_is_compared_by_what_it_has() -> None:
    host = CpuSpec(model="Haswell", vendor="Intel", features={"vmx": "require"}, host=True)
    assert x86.compare(host, CpuSpec(model="Nehalem"))[0] == "superset"
    assert x86.compare(host, CpuSpec(model="Haswell", features={"vmx": "require"}))[0] == (
        "identical"
    )
    assert x86.compare(host, CpuSpec(model="Nehalem", features={"svm": "require"})) == (
        "incompatible",
        "Host CPU does not provide required features: svm",
    )
    assert x86.compare(host, CpuSpec(model="Nehalem", features={"vmx": "forbid"})) == (
        "incompatible",
        "Host CPU provides forbidden features: vmx",
    )
    assert x86.compare(host, CpuSpec(model="Nehalem", vendor="AMD"))[1] == (
        "host CPU vendor does not match required CPU vendor AMD"
    )
    found, reason = x86.compare(host, CpuSpec(model="Nehalem"), strict=True)
    assert found == "incompatible"
    assert reason is not None
    assert reason.startswith("Host CPU does not strictly match guest CPU: Extra features: ")
    assert x86.compare(None, CpuSpec(model="Nehalem")) == ("incompatible", "unknown host CPU")


def test_host_model_becomes_the_hosts_with_the_guests_wishes() -> None:
    host = CpuSpec(model="Haswell", vendor="Intel", features={"vmx": "require", "ss": "require"})
    guest = CpuSpec(features={"vmx": "disable"})
    x86.update(guest, host, mode="host-model", match="exact")
    assert (guest.model, guest.vendor) == ("Haswell", "Intel")
    assert guest.features["vmx"] == "disable"
    assert guest.features["ss"] == "require"


def test_optional_features_are_those_the_host_has() -> None:
    host = CpuSpec(model="Haswell", features={"vmx": "require"}, host=True)
    guest = CpuSpec(model="Nehalem", features={"vmx": "optional", "svm": "optional"})
    x86.update(guest, host, mode="custom", match="exact")
    assert guest.features["vmx"] == "require"
    assert guest.features["svm"] == "disable"
    with pytest.raises(HvError, match="unknown host CPU model"):
        x86.update(CpuSpec(model="Nehalem", features={"vmx": "optional"}), None,
                   mode="custom", match="exact")  # fmt: skip


def test_features_a_model_once_had_are_turned_off() -> None:
    guest = CpuSpec(model="Icelake-Server")
    x86.update(guest, None, mode="custom", match="exact")
    assert guest.features["intel-pt"] == "disable"


def test_a_model_is_expressed_by_another() -> None:
    models = {"Nehalem": CpuModel("Nehalem")}
    cpu = CpuSpec(model="Westmere", features={"vmx": "require"})
    x86.translate(cpu, models)
    assert cpu.model == "Nehalem"
    assert cpu.features["aes"] == "require"
    assert cpu.features["vmx"] == "require"
    with pytest.raises(HvError, match="CPU model Westmere is not supported by hypervisor"):
        x86.translate(CpuSpec(model="Westmere", fallback="forbid"), models)


def test_broken_transactional_memory_is_not_offered() -> None:
    found = x86.decode(x86.CpuData(bits=data("Haswell").bits, vendor="Intel", signature=(6, 60, 3)))
    assert found.model == "Haswell-noTSX"


def test_unknown_names_are_errors_of_libvirts_words() -> None:
    with pytest.raises(HvError, match="internal error: Unknown CPU model nope"):
        x86.bits_of(CpuSpec(model="nope"))
    with pytest.raises(HvError, match="unsupported configuration: unknown CPU feature: nope"):
        x86.check_features(CpuSpec(features={"nope": "require"}))


def test_the_kernel_s_names_of_features_are_understood() -> None:
    flags = (
        "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr "
        "sse sse2 syscall nx lm pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm pclmulqdq ibrs"
    )
    found = x86.from_linux("GenuineIntel", (6, 26, 3), flags)
    assert found.host
    assert (found.vendor, found.model) == ("Intel", "Nehalem-v2")
    assert found.features == {"pclmuldq": "require", "vme": "require"}
