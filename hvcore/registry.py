"""The registry: which drivers, elements and features there are.

An instance, never a global: a program may have several. Plugins fill it, then it freezes, and from
then on everything is plain dictionaries and tuples; pluggy is asked only at coarse points.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import inspect
import os
import pkgutil
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import pluggy

from hvcore import hookspecs
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import PluginConflict
from hvcore.errors import PluginError
from hvcore.errors import PluginLoadError
from hvcore.feature import Feature
from hvcore.xml.codegen import Binding

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator

    from hvcore.capabilities import ProbeSession
    from hvcore.driver import Driver
    from hvcore.xml.fields import Element

DRIVERS: Final = "hvcore.drivers"
PLUGINS: Final = "hvcore.plugins"
DISABLE: Final = "HVCORE_DISABLE_PLUGINS"


class Registry:
    """Drivers by URI scheme, elements and features by class."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self._drivers: dict[str, type[Driver]] = {}
        self._lazy_drivers: dict[str, importlib.metadata.EntryPoint] = {}
        self._features: dict[type[Element], Feature] = {}
        self._elements: list[type[Element]] = []
        self._owners: dict[tuple[str, object], str] = {}
        self._registering = "hvcore"
        self._binding: Binding | None = None
        self._later: list[tuple[str, Callable[[Registry], None]]] = []
        self._loading_driver = False
        self._probers: tuple[str, ...] | None = None
        # A historic call: whatever registers later is handed the registry at that moment.
        self.manager.hook.hv_register.call_historic(kwargs={"registry": self})

    @classmethod
    def default(cls) -> Registry:
        """Return a frozen registry with all that is installed.

        ``HVCORE_DISABLE_PLUGINS`` may hold comma-separated names of drivers and plugins to leave
        out.

        :raises PluginConflict: when two distributions claim the same thing.
        :raises PluginLoadError: when a plugin cannot be imported.
        """
        registry = cls()
        registry.load_entry_points()
        registry.freeze()
        return registry

    # -- filling -----------------------------------------------------------------------------------

    def load_entry_points(self) -> None:
        """Note the drivers and load the plugins of all installed distributions, sorted by name."""
        disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")}
        for entry in _entry_points(DRIVERS):
            if entry.name not in disabled:
                self._claim("driver", entry.name, _distribution(entry))
                self._lazy_drivers[entry.name] = entry
        for entry in _entry_points(PLUGINS):
            owner = _distribution(entry)
            for name, load in _plugins(entry) if entry.name not in disabled else ():
                if name not in disabled:
                    self._claim("plugin", name, owner)
                    self.register(load(), name=name, distribution=owner)

    def register(
        self, plugin: Any, *, name: str | None = None, distribution: str = "local"
    ) -> None:
        """Add a plugin: a module or object with hook implementations.

        :raises PluginConflict: when it claims what another has.
        """
        before, self._registering = self._registering, distribution
        try:
            self.manager.register(plugin, name=name)
        finally:
            self._registering = before

    def add_driver(self, driver: type[Driver]) -> None:
        """Add a driver under each of its URI schemes.

        :raises PluginConflict: when a scheme is taken by another class.
        """
        for scheme in driver.schemes:
            known = self._drivers.get(scheme)
            if known is not None and known is not driver:
                raise PluginConflict(
                    f"URI scheme '{scheme}' of {self._registering} is already that of "
                    f"{known.__module__}"
                )
            self._drivers[scheme] = driver

    def add_element(self, element: type[Element]) -> None:
        """Add an extension of a core element.

        :raises PluginConflict: when another extension of the same element has this name.
        :raises PluginLoadError: when the registry is frozen.
        """
        if self._binding is not None and not self._loading_driver:
            raise PluginLoadError(f"{element.__qualname__} comes after the registry was frozen")
        if element.spec.tag:
            self._claim(
                "element", (element.spec.extended_name, element.spec.tag), self._registering
            )
        self._elements.append(element)

    def add_later(self, add: Callable[[Registry], None]) -> None:
        """Have ``add(registry)`` add elements when the first document is looked at.

        Elements name classes of the model, and importing that is most of the time in which a
        program that looks at no document is done.
        """
        self._later.append((self._registering, add))

    def add_feature(self, feature: Feature) -> None:
        """Add a feature together with its element.

        :raises PluginConflict: when the name or the element is taken.
        """
        self._claim("feature", feature.name, self._registering)
        self.add_element(feature.element)
        self._features[feature.element] = feature

    def _claim(self, kind: str, key: object, owner: str) -> None:
        other = self._owners.get((kind, key))
        if other is not None:
            raise PluginConflict(f"{kind} {key!r} is claimed by both {other} and {owner}")
        self._owners[kind, key] = owner

    def freeze(self) -> None:
        """End registration; misspelt hooks are errors here.

        :raises PluginLoadError: when a plugin implements a hook that does not exist.
        """
        try:
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginLoadError(str(error)) from error
        self._binding = Binding(self._elements)

    # -- reading -----------------------------------------------------------------------------------

    @property
    def binding(self) -> Binding:
        """The compiled parsers and formatters, with the elements of all plugins."""
        if self._later:
            self._add_now()
        if self._binding is None:
            self.freeze()
        assert self._binding is not None
        return self._binding

    def _add_now(self) -> None:
        """Add the elements that were to be added later."""
        pending, self._later = self._later, []
        before = self._registering
        with self._adding_late():
            for self._registering, add in pending:
                add(self)
        self._registering = before

    @contextlib.contextmanager
    def _adding_late(self) -> Iterator[None]:
        """Let a driver add elements although the registry may be frozen."""
        before = len(self._elements)
        self._loading_driver = True
        try:
            yield
        finally:
            self._loading_driver = False
        if self._binding is not None and len(self._elements) > before:
            # What was compiled without these elements would keep them as unknown ones.
            self._binding = Binding(self._elements)

    @property
    def features(self) -> dict[type[Element], Feature]:
        """All features by the extension class that carries them."""
        return self._features

    def schemes(self) -> list[str]:
        """Return the names of all drivers that could be loaded."""
        return sorted({*self._drivers, *self._lazy_drivers})

    def driver(self, scheme: str) -> type[Driver]:
        """Return the driver for a URI scheme, importing it at first use.

        :raises HvError: when no driver claims the scheme, with libvirt's words.
        :raises PluginLoadError: when its module cannot be imported.
        """
        found = self._drivers.get(scheme)
        if found is None and scheme in self._lazy_drivers:
            self._load_driver(scheme)
            found = self._drivers.get(scheme)
        if found is None:
            raise HvError(
                f"no connection driver available for {scheme}",
                kind=ErrorClass.NO_CONNECT,
                hint=f"known schemes: {', '.join(self.schemes())}",
            )
        return found

    def _load_driver(self, scheme: str) -> None:
        """Import a driver; it may add the elements of its own namespace even now."""
        entry = self._lazy_drivers[scheme]
        with self._adding_late():
            plugin = _load(entry.name, entry, entry.load)
            self.register(plugin, name=f"driver:{scheme}", distribution=_distribution(entry))

    # -- hooks -------------------------------------------------------------------------------------

    def probed(self, driver: str, binary: str, session: ProbeSession) -> frozenset[str]:
        """Return the capability names that plugins add to what ``driver`` found in ``binary``.

        :raises PluginError: when a plugin fails.
        """
        found: set[str] = set()
        for names in self.each("hv_probe", driver=driver, binary=binary, session=session):
            found.update(names or ())
        return frozenset(found)

    def probers(self) -> tuple[str, ...]:
        """Return the plugins that `probed` asks, each with what tells its versions apart.

        What they add is cached together with what the driver found; it holds as long as they are
        the same, in the same files.
        """
        if self._probers is None:
            found = self.manager.hook.hv_probe.get_hookimpls()
            self._probers = tuple(f"{each.plugin_name}:{_origin(each.function)}" for each in found)
        return self._probers

    def each(self, hook: str, **arguments: Any) -> Iterator[Any]:
        """Yield what each implementation of ``hook`` returns, in order of registration.

        pluggy would let one that raises silence the others without saying whose it is.

        :raises PluginError: when one raises what is no error of hvcore; names the plugin.
        """
        for found in getattr(self.manager.hook, hook).get_hookimpls():
            try:
                answer = found.function(*(arguments[name] for name in found.argnames))
            except HvError:
                raise
            except Exception as error:
                raise PluginError(
                    f"plugin '{found.plugin_name}' failed in {hook}: "
                    f"{type(error).__name__}: {error}"
                ) from error
            yield answer

    def lowering(self, driver: str, extension: Element) -> Any:
        """Return how ``driver`` lowers ``extension``, or None."""
        feature = self._features.get(type(extension))
        return None if feature is None else feature.lowerings.get(driver)


def _origin(function: Any) -> str:
    """Return where a function is written, and when that was changed last."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return repr(type(function))
    try:
        status = os.stat(code.co_filename)  # noqa: PTH116 - the path is a string already
        changed = f"{status.st_mtime_ns}:{status.st_size}"
    except OSError:  # written at a prompt, or inside an archive
        changed = ""
    return f"{code.co_filename}:{code.co_firstlineno}:{changed}"


def _entry_points(group: str) -> Iterable[importlib.metadata.EntryPoint]:
    # Metadata comes in the order of a directory scan; sorting makes machines agree.
    return sorted(
        importlib.metadata.entry_points(group=group), key=lambda e: (e.name, _distribution(e))
    )


def _distribution(entry: importlib.metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value


def _plugins(
    entry: importlib.metadata.EntryPoint,
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the plugins of an entry point: what it names, or each module of a package."""
    found = _load(entry.name, entry, entry.load)
    hooks = any(hasattr(value, f"{hookspecs.PROJECT}_impl") for value in vars(found).values())
    if hooks or not hasattr(found, "__path__"):
        yield entry.name, lambda: found
        return
    for _, module, _ in sorted(pkgutil.iter_modules(found.__path__), key=lambda each: each.name):
        name = module.replace("_", "-")
        load = functools.partial(importlib.import_module, f"{found.__name__}.{module}")
        yield name, functools.partial(_load, name, entry, load)


def _load(name: str, entry: importlib.metadata.EntryPoint, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:
        raise PluginLoadError(
            f"plugin '{name}' of {_distribution(entry)} cannot be loaded: {error}"
        ) from error
