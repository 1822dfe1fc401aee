"""Sphinx configuration. Warnings are errors: ``./dev docs``."""

from __future__ import annotations

import hvcore

project = "hvcore"
author = "The hvcore developers"
copyright = author  # noqa: A001 - the name Sphinx reads
version = release = hvcore.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = f"hvcore {release}"
exclude_patterns = ["_build"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"

# Signatures name other projects, and building must not need the network to look them up.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(asyncio|attrs?|os|click|collections|contextlib|enum|hypothesis|lxml|pathlib|pluggy|qemu|rich|st|typing)(\..*)?",
    ),
    (
        "py:class",
        # Names that modules import for type checkers only reach Sphinx without their module.
        r"([A-Z]\w*|optional|show|type|(hvcore\.[\w.]+\.)?_\w+|hvcore\.[\w.]+\.T\w*|hvcore\.model\.[\w.]+)",
    ),
]
