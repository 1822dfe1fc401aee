"""What can be done with a domain, one module for each topic.

Each has two halves: what a driver may override, with the refusal of a driver that does not, and
what a handle on a domain offers. Between them stands the engine, which holds the job and swaps the
definitions. The rules, which do no I/O, are in :mod:`hvcore.rules`.
"""
