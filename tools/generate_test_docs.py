"""Writes docs/test-operations.inc: what libvirt's test driver does not have, and what ours has.

``python tools/generate_test_docs.py`` rewrites the file; a test checks that doing so changes
nothing, and another that what is said to work does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hvcore_test.operations import OPERATIONS

TARGET = Path(__file__).parents[1] / "docs" / "test-operations.inc"


def generate() -> str:
    """Return the file."""
    lines = [".. Written by tools/generate_test_docs.py.", ""]
    lines += [".. list-table::", "   :header-rows: 1", ""]
    lines += ["   * - libvirt's operation", "     - hvcore's", "     - what is to be known"]
    for each in OPERATIONS:
        ours = f"``{each.ours}``" if each.ours else "none"
        lines += [f"   * - {', '.join(each.names)}", f"     - {ours}", f"     - {each.reason}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def main() -> int:
    """Rewrite the file."""
    TARGET.write_text(generate())
    sys.stdout.write(f"wrote {TARGET.relative_to(TARGET.parents[1])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
