"""The answers file under any text and any answers: nothing but AnswersError, nothing lost on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from wizard import answers_values as values
from wizard import answers_yaml
from wizard.answers import (
    AllowRule,
    Answers,
    AnswersError,
    Caddy,
    Firewall,
    Further,
    Preflight,
    Proxy,
    Test,
    Tls,
    Vllm,
    dump,
    load,
    schema,
)

GOOD = sorted((Path(__file__).parents[1] / "recorded" / "answers" / "good").glob("*.yaml"))
UNHURRIED = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # no test fails by its time
VALIDATOR = Draft202012Validator(schema())


def characters(*, but: str = "", more: str = "") -> SearchStrategy[str]:
    """Any character that one line may have, quotes, colons and emoji included."""
    line = st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp"), exclude_characters=f"\ufeff{but}")
    return line | st.sampled_from(f' :#-"{more}')


AUTO = st.just("auto")
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,9}(\.[a-z][a-z0-9]{1,9}){1,3}", fullmatch=True)
PATHS = st.lists(st.text(characters(but="/"), max_size=6), min_size=1, max_size=3).map(
    lambda parts: "".join(f"/d{part}" for part in parts)
)
COMMENTS = st.text(characters(but="'"), max_size=20)
LINES = st.text(characters(), max_size=20).map(lambda text: text.strip() or "auto")
PROMPTS = st.text(characters(more="\n\t'"), max_size=60).map(lambda text: text if text.strip() else f"{text}Hello")
ADDRESSES = st.sampled_from(["203.0.113.7", "10.0.0.5", "2001:db8::7", "fd00::1"])
TIMES = st.integers(1, 86400).map(lambda number: f"{number}s") | st.sampled_from(["10m", "24h", "1h30m5s"])
PORTS = st.integers(1, 65535)
RULES = st.builds(
    AllowRule,
    port=PORTS | st.tuples(st.integers(1, 999), st.integers(1000, 65535)).map(lambda ends: f"{ends[0]}:{ends[1]}"),
    protocol=st.sampled_from(["tcp", "udp"]),
    from_=st.sampled_from(["any", "10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]),
    comment=COMMENTS,
)
MORE = st.lists(
    st.builds(
        Further,
        unit=st.integers(1, 9).map(lambda number: f"vllm-{number}.service"),
        path=st.from_regex(r"[a-u][a-z0-9_-]{0,9}", fullmatch=True),
        env_file=AUTO | PATHS,
    ),
    max_size=3,
    unique_by=(lambda one: one.unit, lambda one: one.path),
)
HSTS = st.sampled_from([None, "max-age=0", "max-age=31536000; includeSubDomains"])


@st.composite
def answers(draw: st.DrawFn) -> Answers:
    """Answers of every kind; what cannot be together is left to the tests that name it."""
    mode = draw(st.sampled_from(["internal", "acme", "custom"]))
    needed = st.none() if mode == "internal" else st.nothing()
    firewall = st.builds(
        Firewall,
        ssh_ports=AUTO | st.lists(st.integers(81, 442), max_size=3, unique=True).map(tuple),
        http=AUTO | st.booleans(),
        allow=st.lists(RULES, max_size=3, unique_by=lambda rule: (rule.port, rule.protocol, rule.from_)).map(tuple),
        safety_seconds=st.integers(10, 3600),
    )
    tls = st.builds(
        Tls,
        mode=st.just(mode),
        hosts=AUTO | st.lists(NAMES | ADDRESSES, min_size=1, max_size=3, unique=True).map(tuple),
        domain=needed | NAMES,
        public_addresses=AUTO | st.lists(ADDRESSES, min_size=1, unique=True).map(tuple),
        email=needed | NAMES.map(lambda name: f"ops+llm@{name}"),
        acme_ca_file=st.none() | PATHS,
        eab_file=st.none() | PATHS,
        certificate=needed | PATHS.map(lambda path: f"{path}.pem"),
        private_key=needed | PATHS.map(lambda path: f"{path}.key"),
    )
    proxy = st.builds(
        Proxy,
        read_timeout=TIMES,
        write_timeout=TIMES,
        compression=st.lists(st.sampled_from(["zstd", "gzip"]), unique=True).map(tuple),
        hsts=HSTS,
        http3=st.booleans(),
        access_log=st.booleans(),
    )
    return Answers(
        version=1,
        preflight=Preflight(accept=draw(st.sampled_from([(), ("preflight.gpu",), ("tls.dns.caa", "caddy.x")]))),
        vllm=Vllm(
            launch_script=draw(AUTO | PATHS),
            env_file=draw(AUTO | PATHS),
            ready_timeout=draw(PORTS),
            more=tuple(draw(MORE)),
        ),
        firewall=draw(firewall),
        tls=draw(tls),
        caddy=Caddy(existing_config=draw(st.sampled_from(["stop", "keep", "replace"]))),
        proxy=draw(proxy),
        test=Test(model=draw(LINES), prompt=draw(PROMPTS)),
    )


@UNHURRIED
@given(answers())
def test_load_of_dump_gives_the_same_answers(given_: Answers) -> None:
    assert load(dump(given_).encode()) == given_


@UNHURRIED
@given(answers())
def test_schema_accepts_what_check_accepts(given_: Answers) -> None:
    VALIDATOR.validate(json.loads(json.dumps(answers_yaml.parse(dump(given_).encode()).data)))


def loads_or_reports(text: bytes) -> None:
    try:
        load(text)
    except AnswersError as error:
        assert error.errors
        assert all(problem.message for problem in error.errors)


@UNHURRIED
@given(st.binary(max_size=300))
def test_any_bytes_load_or_are_reported(text: bytes) -> None:
    loads_or_reports(text)


@UNHURRIED
@given(st.text("abtls:-[]{}?&*!|>'\"%@#\n\t ,0123456789~<", max_size=120))
def test_any_yaml_like_text_loads_or_is_reported(text: str) -> None:
    loads_or_reports(text.encode())
    loads_or_reports(b"version: 1\ntls: {mode: internal}\n" + text.encode())


@UNHURRIED
@given(st.sampled_from(GOOD), st.data())
def test_a_good_file_with_any_piece_replaced_loads_or_is_reported(path: Path, data: st.DataObject) -> None:
    text = path.read_bytes()
    start = data.draw(st.integers(0, len(text)))
    piece = data.draw(st.binary(max_size=4) | st.sampled_from([b"null", b"[]", b"{}", b"1e9", b"\n- ", b"*a"]))
    loads_or_reports(text[:start] + piece + text[start + data.draw(st.integers(0, 6)) :])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["auto", "any"]),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
PLACES = [
    (section, key)
    for section, field in Answers.model_fields.items()
    if section != "version"
    for key in getattr(Answers.defaults(), section).model_dump(by_alias=True)
]


@UNHURRIED
@given(st.sampled_from(PLACES), JSON)
def test_any_value_of_any_key_is_accepted_or_reported_under_that_key(place: tuple[str, str], value: object) -> None:
    section, key = place
    data = {"version": 1, "tls": {"mode": "internal"}}
    data[section] = {**({"mode": "internal"} if section == "tls" else {}), key: value}
    try:
        text = json.dumps(data).encode()
        load(text)
    except AnswersError as error:
        assert any(problem.key.startswith((f"{section}.{key}", "tls.")) for problem in error.errors)


@UNHURRIED
@given(st.text(max_size=40))
def test_any_name_is_normal_already_or_becomes_so_or_is_refused(text: str) -> None:
    try:
        name = values.host(text)
    except values.Wrong:
        return
    assert values.host(name) == name
    assert name.isascii()
    assert not set(name) & set(" /\"'{}\\\n")


@pytest.mark.parametrize("text", ["*", "a.*", "[::1]", "::1%eth0", "１.２.３.４", "a b", "", ".", "a..b", "xn--", "ß"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Tls(mode="internal", hosts=(text,))
