"""The proxy's benchmark: each of its variants still changes what our Caddyfile is today."""

import re
from dataclasses import replace

import pytest

from tests.bench.proxies import ours
from tests.bench.variants import VARIANTS, make


def without_port(text: str) -> str:
    return re.sub(r"http_port \d+", "", text)


@pytest.mark.parametrize("name", VARIANTS)
def test_variant_differs_from_ours(name: str) -> None:
    plain, changed = ours(), make(ours(), name)
    before, after = (without_port(kind.text(4443, "127.0.0.1:8000")) for kind in (plain, changed))
    assert changed.name == name
    assert (before != after) is not bool(changed.environment)


def test_directive_that_is_gone_is_an_error() -> None:
    other = replace(ours(), text=lambda *_: "{\n}\n")
    with pytest.raises(ValueError, match="any more"):
        make(other, "sampled-log").text(4443, "127.0.0.1:8000")
