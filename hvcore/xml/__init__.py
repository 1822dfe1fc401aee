"""The binding between XML and classes: one declaration, and everything made from it.

``fields`` declares, ``codecs`` convert values, ``codegen`` turns declarations into parsers,
formatters and cloners, ``reader`` opens documents safely, ``schema`` makes RELAX NG, JSON schema
and the reference table.
"""
