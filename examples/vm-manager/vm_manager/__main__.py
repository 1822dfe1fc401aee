"""``vm-manager SITE``: have the machines that a file says; see :mod:`vm_manager.site`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from pathlib import Path

from vm_manager.site import Site
from vm_manager.site import apply


async def act(site: Site, failed: list[str], *, watch: bool) -> bool:
    """Do what the command says; return whether all went well."""
    async with site.manager() as manager:
        reports = [await manager.host_failed(host) for host in failed]
        reports.append(await apply(manager, site.machines))
        for report in reports:
            for action in report.actions:
                print(*action)
        problems = {name: error for report in reports for name, error in report.problems.items()}
        for name, error in problems.items():
            print(f"error: {name}: {error}", file=sys.stderr)
        if watch:
            await manager.run()
        return not problems


def main() -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="vm-manager", description="Have what a file says.")
    parser.add_argument("site", type=Path, help="the file")
    parser.add_argument("--watch", action="store_true", help="stay, and keep it so")
    parser.add_argument(
        "--failed", action="append", default=[], metavar="HOST", help="a host that surely is off"
    )
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO if chosen.watch else logging.CRITICAL)
    try:
        site = Site.load(chosen.site)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with contextlib.suppress(KeyboardInterrupt):
        return 0 if asyncio.run(act(site, chosen.failed, watch=chosen.watch)) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
