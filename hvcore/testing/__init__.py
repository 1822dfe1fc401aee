"""For tests of drivers, plugins and programs that use hvcore; nothing here is imported by it.

- :mod:`hvcore.testing.plugin`: fixtures, by ``pytest_plugins = ["hvcore.testing.plugin"]``.
- :mod:`hvcore.testing.suite`: the contract of drivers.
- :mod:`hvcore.testing.feature`: the contract of features.
- :mod:`hvcore.testing.strategies`: random documents.
- :mod:`hvcore.testing.fake_ch`: a cloud-hypervisor that runs nothing.

What they need beside hvcore comes with ``hvcore[testing]``.
"""
