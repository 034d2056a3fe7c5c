"""The answers file: what is accepted, what it means, and every error with its line, key and remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from wizard import answers_yaml
from wizard.answers import (
    AllowRule,
    Answers,
    AnswersError,
    Firewall,
    Tls,
    Vllm,
    dump,
    example,
    load,
    schema,
    unused,
)

RECORDED = Path(__file__).parents[1] / "recorded" / "answers"
WRONG = sorted((RECORDED / "wrong").glob("*.yaml"))
GOOD = sorted((RECORDED / "good").glob("*.yaml"))
INTERNAL = b"version: 1\ntls: {mode: internal}\n"


def errors_of(text: bytes) -> list[dict[str, Any]]:
    with pytest.raises(AnswersError) as caught:
        load(text)
    return [asdict(problem) for problem in caught.value.errors]


def validator() -> Draft202012Validator:
    found = schema()
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


def as_json(text: bytes) -> Any:
    """The file's data as a JSON document has it."""
    return json.loads(json.dumps(answers_yaml.parse(text).data))


def test_there_are_enough_recorded_files() -> None:
    assert len(WRONG) >= 40
    assert len(GOOD) >= 15


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_wrong_file_gets_all_its_errors_with_line_key_and_remedy(path: Path) -> None:
    recorded = json.loads(path.with_suffix(".expected.json").read_text())
    assert errors_of(path.read_bytes()) == recorded["errors"]


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_schema_refuses_what_check_refuses(path: Path) -> None:
    """Where a schema cannot say it, the recorded file names the reason; where there is no data, both end."""
    recorded = json.loads(path.with_suffix(".expected.json").read_text())
    text = path.read_bytes()
    if answers_yaml.parse(text).problems:
        assert recorded["schema"] == "no data"
    else:
        said = "accepts" if validator().is_valid(as_json(text)) else "refuses"
        assert said == recorded["schema"]
        assert said == "refuses" or recorded["because"]


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_file_is_accepted_by_check_and_schema_and_survives_a_dump(path: Path) -> None:
    text = path.read_bytes()
    answers = load(text)
    validator().validate(as_json(text))
    assert load(dump(answers).encode()) == answers


def test_defaults_are_the_documented_ones() -> None:
    """The file of every key holds every default but what tls needs in its modes."""
    documented = load((RECORDED / "good" / "every_key.yaml").read_bytes())
    assert documented.model_dump(exclude={"tls"}) == Answers.defaults().model_dump(exclude={"tls"})
    assert Answers.defaults() == load(INTERNAL)
    given = set(as_json((RECORDED / "good" / "every_key.yaml").read_bytes()))
    assert given == set(Answers.model_fields)


def test_every_documented_key_is_a_key_and_every_key_is_documented() -> None:
    documented = as_json((RECORDED / "good" / "every_key.yaml").read_bytes())
    for section, keys in documented.items():
        if section != "version":
            assert set(keys) == set(getattr(Answers.defaults(), section).model_dump(by_alias=True))


def test_auto_stays_auto() -> None:
    answers = load(INTERNAL)
    assert answers.vllm.port == answers.vllm.env_file == answers.vllm.launch_script == "auto"
    assert answers.firewall.ssh_ports == answers.firewall.http == "auto"
    assert answers.tls.hosts == answers.tls.public_addresses == answers.test.model == "auto"


def test_international_names_become_punycode() -> None:
    tls = load((RECORDED / "good" / "international.yaml").read_bytes()).tls
    assert (tls.domain, tls.email) == ("xn--modle-6ra.exemple.fr", "ops@xn--mnchen-3ya.example")


def test_values_get_their_normal_form() -> None:
    good = RECORDED / "good"
    assert load((good / "hosts.yaml").read_bytes()).tls.hosts == (
        "10.0.0.5",
        "2001:db8::7",
        "llm.lan",
        "gpu-box",
    )
    spaced = load((good / "fingerprint_spaces.yaml").read_bytes())
    assert spaced.caddy.key_fingerprint == Answers.defaults().caddy.key_fingerprint
    rules = load((good / "rules.yaml").read_bytes()).firewall.allow
    assert rules[1] == AllowRule(port=9100, from_="192.0.2.7")
    assert [rule.port for rule in rules] == [9100, 9100, "6000:6010", 8000]


def test_words_of_older_yaml_are_text() -> None:
    answers = load((RECORDED / "good" / "words_of_old_yaml.yaml").read_bytes())
    assert (answers.test.model, answers.test.prompt) == ("yes", "2026-11-24 06:30")


def test_example_is_accepted_and_holds_the_defaults() -> None:
    text = example()
    assert load(text.encode()) == Answers.defaults()
    for name in ("firewall", "allow", "safety_seconds", "# domain:", "# private_key:", "hsts"):
        assert f"{name}" in text


def test_example_names_and_explains_every_key() -> None:
    lines = example().splitlines()
    for section in (field.default for name, field in Answers.model_fields.items() if field.default):
        if not isinstance(section, (Firewall, Vllm)):
            continue
        for key, field in type(section).model_fields.items():
            row = next(number for number, line in enumerate(lines) if line.startswith(f"  {key}:"))
            assert lines[row - 1].lstrip().startswith("#")
            assert field.description


@pytest.mark.parametrize(("mode", "keys"), [("acme", ("domain", "email")), ("custom", ("domain",))])
def test_the_commented_lines_of_the_example_complete_the_other_modes(mode: str, keys: tuple[str, ...]) -> None:
    text = example().replace("mode: internal", f"mode: {mode}")
    for key in ("domain", "email", "certificate", "private_key"):
        text = text.replace(f"# {key}: ", f"{key}: ")
    answers = load(text.encode())
    assert answers.tls.mode == mode
    assert all(getattr(answers.tls, key) for key in keys)


def test_dump_holds_only_what_differs_from_the_defaults() -> None:
    assert dump(Answers.defaults()) == "version: 1\ntls:\n  mode: internal\n"


def test_answers_of_other_modes_are_kept_and_named() -> None:
    answers = load((RECORDED / "good" / "internal_with_answers_of_other_modes.yaml").read_bytes())
    assert unused(answers) == ("tls.domain", "tls.email", "tls.certificate", "tls.private_key")
    assert unused(Answers.defaults()) == ()


def test_a_file_of_ten_megabytes_is_refused() -> None:
    assert [each["message"] for each in errors_of(b"# " + b"a" * 10_000_000)] == ["this file has more than 1024 KiB"]


def test_a_file_of_very_many_entries_is_refused() -> None:
    text = INTERNAL + b"preflight:\n  accept: [" + b"preflight.gpu, " * 6000 + b"]\n"
    assert "entries" in errors_of(text)[-1]["message"]


@pytest.mark.parametrize("opening", [b"[", b"{", b"- ", b"? ", b"a: [", b"{? "])
def test_deep_nesting_of_every_kind_ends_with_an_error(opening: bytes) -> None:
    assert "nested too deep" in errors_of(opening * 20_000)[0]["message"]


@pytest.mark.parametrize("canary", ["sk-canary/+=", "-----BEGIN PRIVATE KEY-----\\nMIIEcanary"])
@pytest.mark.parametrize("line", ["api_key: {}", "vllm: {{api_key: {}}}", "tls: {{private_key: {}}}", "? {}: ]"])
def test_an_error_never_quotes_a_secret(canary: str, line: str) -> None:
    problems = errors_of(b"version: 1\n" + line.format(f'"{canary}"').encode())
    assert not any("canary" in str(problem["message"]) for problem in problems)


def test_answers_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Answers.defaults().firewall.manage = False


def test_answers_made_by_the_program_obey_the_same_rules() -> None:
    with pytest.raises(ValidationError, match=r"tls\.domain: mode acme needs this key"):
        Answers(version=1, tls=Tls(mode="acme"))
    with pytest.raises(ValidationError, match="an SSH port"):
        Answers(version=1, tls=Tls(mode="internal"), vllm=Vllm(port=2222), firewall=Firewall(ssh_ports=(2222,)))


@pytest.mark.allow_commands("python")
def test_the_parser_is_imported_on_first_use_only() -> None:
    code = "import sys, wizard.answers; sys.exit('ruamel' in ' '.join(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
