"""Labeling configs that mean harm are refused before they are expanded."""

import tracemalloc

import pytest

from backend.errors import LabelConfigError
from backend.label_config import parse

BOMB = "".join(f'<!ENTITY x{i + 1} "{f"&x{i};" * 10}">' for i in range(9))
BOMB = f'<!DOCTYPE a [<!ENTITY x0 "ha">{BOMB}]><View>&x9;</View>'


@pytest.mark.parametrize(
    "config",
    [
        BOMB,
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><View>&x;</View>',
        '<!DOCTYPE a SYSTEM "http://localhost:9/x.dtd"><View/>',
        '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://localhost:9/x.dtd"> %x;]><View/>',
        '<?xml version="1.0"?>\n<!DOCTYPE a><View/>',
    ],
)
def test_a_document_type_is_refused_before_anything_is_expanded(config: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(LabelConfigError, match="document type"):
            parse(config)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "config",
    [
        "<View>",
        "no xml",
        "<View>&nowhere;</View>",
        "<View>\x00</View>",
        "<View>\ud800</View>",
        "<other:View/>",
        "<View>" * 300 + "</View>" * 300,
        "<View/><View/>",
    ],
)
def test_what_is_no_xml_is_refused_in_words(config: str) -> None:
    with pytest.raises(LabelConfigError, match="The labeling config"):
        parse(config)
