"""The ``hv`` command: global options, and one lazily imported module for each group of verbs.

Finding a verb imports only its module, so that ``hv list`` never pays for the editor or the
console. Exit status is virsh's: 0 done, 1 failed, 2 wrong use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any
from typing import Final

import click

from hvcore import __version__
from hvcore.cli.session import Session
from hvcore.cli.words import arranged

VERBS: Final = {
    # verb: module, one line of help (so that `hv --help` imports nothing)
    "abi-check": ("document", "show what a guest would find changed"),
    "attach-device": ("devices", "add a device"),
    "autostart": ("define", "start a domain when the host does"),
    "blockcommit": ("blockjobs", "commit images of a disk into one below"),
    "blockcopy": ("blockjobs", "copy a disk elsewhere"),
    "blockjob": ("blockjobs", "show, limit or end the job of a disk"),
    "blockpull": ("blockjobs", "pull the images of a disk into the first"),
    "blockresize": ("resizing", "change the size of a disk"),
    "capabilities": ("host", "show what the hypervisor and host can do"),
    "completion": ("host", "print the completion script of a shell"),
    "console": ("console", "connect to the guest's console"),
    "cpu-stats": ("statistics", "show how much of the host's CPUs a domain used"),
    "create": ("define", "start a domain straight from a document"),
    "define": ("define", "make a domain persistent"),
    "destroy": ("lifecycle", "stop a domain at once"),
    "detach-device": ("devices", "take a device away"),
    "detach-device-alias": ("devices", "take the device with an alias away"),
    "domblkinfo": ("statistics", "show how large a disk is"),
    "domblklist": ("statistics", "list the disks of a domain"),
    "domblkstat": ("statistics", "show what a disk has done"),
    "domcapabilities": ("host", "show what guests can have"),
    "domfsfreeze": ("agent", "have a guest hold its file systems still"),
    "domfsinfo": ("agent", "show the file systems of a guest"),
    "domfsthaw": ("agent", "let a guest write to its file systems again"),
    "domfstrim": ("agent", "have a guest give up unused blocks"),
    "domhostname": ("agent", "show the name that a guest has given itself"),
    "domid": ("query", "show the number of a running domain"),
    "domifaddr": ("agent", "show the addresses of a guest"),
    "domiflist": ("statistics", "list the interfaces of a domain"),
    "domifstat": ("statistics", "show what a guest received and sent"),
    "dominfo": ("query", "show what a domain has and uses"),
    "domjobabort": ("migration", "abort the long job that a domain is busy with"),
    "domjobinfo": ("migration", "show the long job that a domain is busy with"),
    "dommemstat": ("statistics", "show what is known of a guest's memory"),
    "domname": ("query", "show the name of a domain"),
    "dompmsuspend": ("adjusting", "let a guest sleep"),
    "dompmwakeup": ("adjusting", "wake a guest up"),
    "domstate": ("query", "show what a domain is doing"),
    "domstats": ("statistics", "show all statistics of domains"),
    "domthrottlegroupdel": ("adjusting", "remove limits that disks share"),
    "domthrottlegroupinfo": ("adjusting", "show limits that disks share"),
    "domthrottlegrouplist": ("adjusting", "list limits that disks share"),
    "domthrottlegroupset": ("adjusting", "set limits that disks share"),
    "domuuid": ("query", "show the UUID of a domain"),
    "domxml-to-native": ("document", "show what would be started"),
    "dump": ("saving", "write the memory of a guest to a file"),
    "dumpxml": ("document", "show the document of a domain"),
    "edit": ("document", "change the document of a domain in an editor"),
    "emulatorpin": ("tuning", "show or change where the hypervisor's own threads run"),
    "event": ("event", "show what happens"),
    "guestinfo": ("agent", "show facts about a guest"),
    "inject-nmi": ("resizing", "send the guest a non-maskable interrupt"),
    "iothreadadd": ("adjusting", "add an I/O thread"),
    "iothreaddel": ("adjusting", "remove an I/O thread"),
    "iothreadinfo": ("tuning", "show I/O threads and where they run"),
    "iothreadpin": ("tuning", "change where an I/O thread runs"),
    "iothreadset": ("adjusting", "let an I/O thread work in another way"),
    "list": ("query", "list domains"),
    "managedsave": ("saving", "save a guest where its next start finds it"),
    "managedsave-define": ("saving", "change the document in the saved state of a domain"),
    "managedsave-dumpxml": ("saving", "show the document in the saved state of a domain"),
    "managedsave-remove": ("saving", "remove the saved state of a domain"),
    "migrate": ("migration", "move a guest to another host"),
    "nodeinfo": ("host", "show the host's CPUs and memory"),
    "numatune": ("tuning", "show or change where memory comes from"),
    "plugin": ("plugin", "make a package with a driver or a feature"),
    "qemu-agent-command": ("agent", "give the agent in a guest a command"),
    "reboot": ("lifecycle", "ask the guest to reboot"),
    "reset": ("lifecycle", "reset the machine"),
    "restore": ("saving", "start the guest that was saved in a file"),
    "resume": ("lifecycle", "continue a paused domain"),
    "save": ("saving", "save a guest to a file and end it"),
    "save-image-define": ("saving", "change the document of a saved guest"),
    "save-image-dumpxml": ("saving", "show the document of a saved guest"),
    "setmaxmem": ("resizing", "change how much memory a guest can have"),
    "set-user-password": ("agent", "change the password of a user of a guest"),
    "setmem": ("resizing", "change how much of its memory a guest has"),
    "setvcpu": ("tuning", "plug or unplug certain virtual CPUs"),
    "setvcpus": ("tuning", "change the number of virtual CPUs"),
    "shutdown": ("lifecycle", "ask the guest to shut down"),
    "snapshot-create": ("snapshots", "take a snapshot as a document says"),
    "snapshot-create-as": ("snapshots", "take a snapshot as options say"),
    "snapshot-current": ("snapshots", "show the current snapshot, or say which it is"),
    "snapshot-delete": ("snapshots", "forget a snapshot"),
    "snapshot-dumpxml": ("snapshots", "show the document of a snapshot"),
    "snapshot-info": ("snapshots", "show what is known of a snapshot"),
    "snapshot-list": ("snapshots", "list the snapshots of a domain"),
    "snapshot-parent": ("snapshots", "show after which snapshot another was taken"),
    "snapshot-revert": ("snapshots", "let a domain be what it was"),
    "start": ("lifecycle", "start a defined domain"),
    "suspend": ("lifecycle", "pause a domain"),
    "undefine": ("define", "remove the definition of a domain"),
    "update-device": ("devices", "change a device"),
    "validate": ("document", "check a document and show every issue"),
    "vcpucount": ("tuning", "show the number of virtual CPUs"),
    "vcpuinfo": ("statistics", "show virtual CPUs and what they used"),
    "vcpupin": ("tuning", "show or change where virtual CPUs run"),
    "version": ("host", "show versions"),
}


class _Verbs(click.Group):
    """A group whose commands live in modules that are imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all verbs."""
        del ctx
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a verb, or None."""
        del ctx
        if cmd_name not in VERBS:
            return None
        module = import_module(f"hvcore.cli.{VERBS[cmd_name][0]}")
        # The name of the builtin is not to be shadowed.
        name = "list_" if cmd_name == "list" else cmd_name.replace("-", "_")
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the verb's command; a misspelt verb is answered with the nearest one."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - only for misspelt verbs

            close = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            ctx.fail(f"unknown command: '{args[0]}'{hint}")
        name, command, rest = super().resolve_command(ctx, args)
        if command is None or isinstance(command, click.Group):
            return name, command, rest
        return name, command, arranged(command, rest, whole=not ctx.resilient_parsing)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs from the table, without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in sorted(VERBS.items())])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-v", "--version", prog_name="hv")
@click.option("-c", "--connect", "uri", metavar="URI", help="hypervisor connection URI")
@click.option("-j", "--json", "as_json", is_flag=True, help="print JSON")
@click.option("-q", "--quiet", is_flag=True, help="print only what was asked for")
@click.pass_context
def hv(ctx: click.Context, /, **options: Any) -> None:
    """Manage virtual machines described by libvirt's domain XML."""
    ctx.obj = Session(**options)


def main() -> None:
    """Run ``hv`` as a program."""
    hv.main(prog_name="hv")
