"""Benchmarks: how long things take, as ratios to a floor and to libvirt. Never a test."""
