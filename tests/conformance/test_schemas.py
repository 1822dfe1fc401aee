"""The schemas that come from the model describe the documents that libvirt's tests are made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lxml import etree

from hvcore.model.domain import Domain
from hvcore.xml.codegen import Binding
from hvcore.xml.context import ParseContext
from hvcore.xml.reader import read
from hvcore.xml.schema import json_schema
from hvcore.xml.schema import relax_ng
from hvcore.xml.schema import to_json
from tests.conformance import suite as suites

REFUSED = {"cpuset-invalid.xml", "hugepages-memaccess-invalid.xml", "vhost_queues-invalid.xml"}
"""Documents whose mistake is one that a grammar can see."""


def _documents() -> dict[str, Path]:
    if not suites.has_data("qemuxmlconf", suites.data_of("qemuxmlconf")):
        pytest.skip(f"no data in {suites.data_of('qemuxmlconf')} (see {suites.VARIABLE})")
    folder = suites.data_of("qemuxmlconf") / "qemuxmlconf" / "data"
    return {path.name: path for path in folder.rglob("*.xml")}


def test_the_grammar_accepts_what_libvirt_has():
    grammar = etree.RelaxNG(etree.fromstring(relax_ng(Binding(), Domain)))
    refused = {}
    for name, path in _documents().items():
        root = etree.parse(path).getroot()
        # Options for QEMU itself are elements of its driver, in a namespace of their own.
        foreign = root.xpath("*[namespace-uri() != '']")
        if not foreign and not grammar.validate(root):
            refused[name] = str(grammar.error_log)
    assert set(refused) == REFUSED, refused


def test_the_json_schema_describes_every_domain():
    import jsonschema

    binding = Binding()
    validator = jsonschema.Draft202012Validator(json_schema(Domain))
    wrong = {}
    for name, path in _documents().items():
        domain = binding.parse(Domain, read(path.read_bytes(), "domain"), ParseContext())
        value = json.loads(json.dumps(to_json(domain)))
        error = next(validator.iter_errors(value), None)
        if error is not None:
            wrong[name] = str(error)
    assert wrong == {}
