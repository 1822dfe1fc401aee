"""CPU models: what they consist of, whether a host can run them, and how QEMU is told.

Pure functions on :class:`~hvcore.cpu.spec.CpuSpec`; the figures lie in ``data/*.json``, made from
libvirt's CPU map by ``tools/convert_cpu_map.py`` and read at the first question about them.
"""
