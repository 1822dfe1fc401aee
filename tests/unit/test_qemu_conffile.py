"""Files of settings are read as libvirt reads them, and refused in its words."""

from __future__ import annotations

import attrs
import pytest

import hvcore.sync
from hvcore.errors import HvError
from hvcore_qemu import conffile
from hvcore_qemu.config import SETTINGS
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.config import configured


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("\n# only a comment\n\n", {}),
        ("a = 1", {"a": 1}),
        ("a=+1 # of many\nb = -7;c = 'x'", {"a": 1, "b": -7, "c": "x"}),
        ('a = "it\'s # no comment"\r\n', {"a": "it's # no comment"}),
        (r'a = "C:\new"', {"a": r"C:\new"}),
        ('a = """two\nlines"""\nb = 2', {"a": "two\nlines", "b": 2}),
        ('a = [ "x",\n\n "y", ]\n', {"a": ["x", "y"]}),
        ("a = []", {"a": []}),
        ("a = [1, ['x']]", {"a": [1, ["x"]]}),
        ("a = 1\na = 2", {"a": 1}),
    ],
)
def test_libvirts_syntax(text, values):
    assert conffile.parse(text, "f.conf").values == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nspice_tls = [1\n", "f.conf:3: list is not closed with ]"),
        ("a = ", "f.conf:1: expecting a value"),
        ("a = yes", "f.conf:1: expecting a value"),
        ("a = -", "f.conf:1: unterminated number"),
        ('\na = "x', "f.conf:2: unterminated string"),
        ("a = 'x\n'", "f.conf:1: unterminated string"),
        ('a = """x', "f.conf:1: unterminated string"),
        ("a 1", "f.conf:1: expecting an assignment"),
        ("1 = 1", "f.conf:1: expecting a name"),
        ("a = 1 b = 2", "f.conf:1: expecting a separator"),
        ("a = [1 2]", "f.conf:1: expecting a separator in list"),
    ],
)
def test_what_is_no_syntax_is_refused_with_its_line(text, message):
    with pytest.raises(HvError) as caught:
        conffile.parse(text, "f.conf")
    assert str(caught.value) == f"configuration file syntax error: {message}"


def test_a_number_beyond_all_types_is_refused():
    with pytest.raises(HvError, match="numerical overflow: f"):
        conffile.parse(f"a = {2**63}", "f.conf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vnc_tls = '1'", "expected a bool for 'vnc_tls' parameter"),
        ("vnc_tls = -1", "expected a bool for 'vnc_tls' parameter"),
        ("vnc_tls = 2", "value for 'vnc_tls' parameter must be 0 or 1"),
        ("vnc_listen = 1", "expected a string for 'vnc_listen' parameter"),
        ("seccomp_sandbox = 'x'", "expected a signed integer for 'seccomp_sandbox' parameter"),
        (
            "seccomp_sandbox = 2147483648",
            "value for 'seccomp_sandbox' parameter must be in range -2147483648:2147483647",
        ),
        (
            "gluster_debug_level = -1",
            "expected an unsigned integer for 'gluster_debug_level' parameter",
        ),
        (
            "gluster_debug_level = 4294967296",
            "value for 'gluster_debug_level' parameter must be in range 0:4294967295",
        ),
    ],
)
def test_values_of_the_wrong_kind_are_refused(text, message):
    with pytest.raises(HvError) as caught:
        configured(QemuConfig(), conffile.parse(text, "/d/qemu.conf"))
    assert str(caught.value) == f"internal error: /d/qemu.conf: {message}"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("qemu.conf", "nographics_allow_host_audio = 1\nvnc_listen = '::1'\nseccomp_sandbox = 0\n"),
        (
            "qemu.toml",
            "nographics_allow_host_audio = true\nvnc_listen = '::1'\nseccomp_sandbox = 0\n",
        ),
    ],
)
def test_both_kinds_of_files_change_what_they_name(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    config = configured(QemuConfig(), conffile.read(tmp_path, "qemu"))
    assert config == attrs.evolve(
        QemuConfig(), nographics_allow_host_audio=True, vnc_listen="::1", seccomp_sandbox=0
    )


def test_without_a_file_nothing_changes(tmp_path):
    defaults = QemuConfig()
    assert configured(defaults, conffile.read(tmp_path, "qemu")) is defaults


def test_unknown_settings_are_passed_over_and_told(caplog):
    assert configured(QemuConfig(), conffile.parse("user = 'x'", "q.conf")) == QemuConfig()
    assert caplog.messages == ["q.conf: setting 'user' is not known"]


def test_every_setting_is_one_of_the_drivers():
    assert set(SETTINGS) <= {field.name for field in attrs.fields(QemuConfig)}


def test_two_files_are_one_too_many(tmp_path):
    (tmp_path / "qemu.conf").touch()
    (tmp_path / "qemu.toml").touch()
    with pytest.raises(HvError, match="there are both"):
        conffile.read(tmp_path, "qemu")


def test_files_that_cannot_be_read_are_errors(tmp_path):
    (tmp_path / "a.toml").write_text("a = [")
    (tmp_path / "b.conf").write_bytes(b"a = '\xff'")
    (tmp_path / "c.conf").mkdir()
    for name, message in (("a", "a.toml: "), ("b", "not UTF-8"), ("c", "Failed to open file")):
        with pytest.raises(HvError, match=message):
            conffile.read(tmp_path, name)


def test_connections_read_the_file_of_their_root(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "qemu.conf").write_text("vnc_allow_host_audio = 2\n")
    with pytest.raises(HvError, match="value for 'vnc_allow_host_audio' parameter must be 0 or 1"):
        hvcore.sync.connect(f"qemu:///embed?root={tmp_path}")
