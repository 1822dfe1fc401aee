"""``python -m hvcore.cli`` is ``hv``."""

from __future__ import annotations

from hvcore.cli.main import main

main()
