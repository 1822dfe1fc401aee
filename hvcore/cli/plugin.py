"""Verbs for authors of drivers and features."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from typing import Final

import click

from hvcore.errors import ErrorClass
from hvcore.errors import HvError

if TYPE_CHECKING:
    from hvcore.cli.session import Session

_TEMPLATES: Final = Path(__file__).parent / "templates"
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@click.group()
def plugin() -> None:
    """Make packages with drivers and features."""


@plugin.command()
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(["driver", "feature"]), required=True, help="what the package has"
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="where to make it; here unless given",
)
@click.pass_obj
def new(session: Session, name: str, kind: str, directory: Path) -> None:
    """Write a package hvcore-NAME that works, with its tests.

    Of a driver, NAME is the URI scheme; of a feature, the element.
    """
    if not _NAME.fullmatch(name):
        session.fail(
            HvError(
                f"'{name}' is no name of a package: lower case letters, digits and single dashes",
                kind=ErrorClass.INVALID_ARG,
            )
        )
    folder = directory / f"hvcore-{name}"
    try:
        _write(folder, kind, name)
    except OSError as error:
        session.fail(
            HvError(f"cannot write '{error.filename}': {error.strerror}", kind=ErrorClass.SYSTEM)
        )
    session.done(
        f"Package '{folder}' made; next: cd {folder} && pip install -e '.[test]' && pytest",
        folder=str(folder),
    )


def _write(folder: Path, kind: str, name: str) -> None:
    """Write the files of a package.

    :raises OSError: one cannot be written, or the folder is there already.
    """
    module = name.replace("-", "_")
    words = {
        "name": name,
        "module": module,
        "cls": "".join(word.capitalize() for word in name.split("-")),
        "underline": "=" * len(f"hvcore-{name}"),
    }
    folder.mkdir(parents=True)
    for template in sorted((_TEMPLATES / kind).rglob("*.in")):
        path = template.relative_to(_TEMPLATES / kind).with_suffix("")
        target = folder / path.with_name(
            {"module.py": f"hvcore_{module}.py", "test_module.py": f"test_{module}.py"}.get(
                path.name, path.name
            )
        )
        target.parent.mkdir(exist_ok=True)
        target.write_text(Template(template.read_text()).substitute(words))
