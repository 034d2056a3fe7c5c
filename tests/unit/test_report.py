"""A report as JSON has the contract's shape and no secret; as text it says what comes next."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.servers import scenario
from tests.servers.recording import CANARY
from wizard.actions import show
from wizard.engine import planned
from wizard.mask import Mask
from wizard.model import (
    Action,
    Endpoint,
    Finding,
    Impact,
    Level,
    Probe,
    Remove,
    Report,
    Run,
    Status,
    StepReport,
    TestRow,
    Wait,
    Write,
)
from wizard.report import Text, document_of


def closed(**properties: Any) -> dict[str, Any]:
    """A schema of an object with exactly these keys."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


STRING, NUMBER, BOOLEAN = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
STRING_OR_NULL = {"type": ["string", "null"]}
IMPACT = {"enum": ["restart vllm", "restart caddy", "reload caddy", "none"]}
SHARED = {"why": STRING, "impact": IMPACT}
CHANGE = {
    "oneOf": [
        closed(kind={"const": "run"}, argv={"type": "array", "items": STRING}, **SHARED),
        closed(kind={"enum": ["write", "remove"]}, path=STRING, diff=STRING, **SHARED),
        closed(kind={"const": "wait"}, **{"for": STRING}, timeout_s=NUMBER, **SHARED),
    ]
}
FINDING = closed(
    key={"type": "string", "pattern": r"^(preflight|firewall|bind|caddy|tls|https_test)\.[a-z0-9_.]+$"},
    level={"enum": ["ok", "info", "warn", "drift", "blocked"]},
    summary=STRING,
    remedy=STRING_OR_NULL,
    evidence={"type": "object"},
)
STEP = closed(
    id={"enum": ["preflight", "firewall", "bind", "caddy", "tls", "https_test"]},
    title=STRING,
    status={"enum": ["ok", "changed", "failed", "skipped", "blocked"]},
    duration_s=NUMBER,
    findings={"type": "array", "items": FINDING},
    changes={"type": "array", "items": CHANGE},
)
ROW = closed(id=STRING, ok={"type": ["boolean", "null"]}, detail=STRING, ms=NUMBER)
# More than the contract asks for: what a failing row's reader can do.
ROW["properties"]["remedy"] = STRING_OR_NULL
ERROR = closed(line={"type": ["integer", "null"]}, key=STRING, message=STRING, expected=STRING_OR_NULL)
ENDPOINT = closed(base_url=STRING, model=STRING_OR_NULL, ca_file=STRING_OR_NULL)
DOCUMENT = closed(
    schema_version={"const": 1},
    command={"enum": ["plan", "apply", "repair", "status", "test", "rollback", "uninstall"]},
    run=STRING_OR_NULL,
    continued=STRING_OR_NULL,
    exit_code={"enum": [0, 1, 2, 3, 4, 5, 6]},
    changed=BOOLEAN,
    failed=BOOLEAN,
    steps={"type": "array", "items": STEP},
    tests={"type": "array", "items": ROW},
    endpoint={"oneOf": [{"type": "null"}, ENDPOINT]},
    errors={"type": "array", "items": ERROR},
    warnings={"type": "array", "items": STRING},
    log_path=STRING_OR_NULL,
    duration_s=NUMBER,
)


def problems(document: dict[str, Any]) -> list[str]:
    Draft202012Validator.check_schema(DOCUMENT)
    plain = json.loads(json.dumps(document))
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(DOCUMENT).iter_errors(plain)]


# What a report has of a server that was not asked to be hardened.
IDS = ["preflight", "firewall", "bind", "caddy", "tls", "https_test"]


@pytest.mark.parametrize("name", scenario.names())
def test_document_of_every_described_server_has_the_contracts_shape(name: str) -> None:
    server = scenario.load(name)
    look, _ = server.overlaid()
    report = Report(
        "status",
        1,
        steps=planned(server.planned()),
        tests=server.tested(),
        endpoint=Endpoint("https://llm/v1", "phi-4-mini", "/root.crt"),
    )
    document = document_of(report, look.mask)
    assert problems(document) == []
    assert [step["id"] for step in document["steps"]] == IDS
    assert len(list(Text().lines(document))) > len(IDS)


def test_the_shape_is_strict() -> None:
    document = document_of(Report("plan", 0), Mask())
    assert problems(document) == []
    assert problems({**document, "more": 1}) and problems({**document, "exit_code": 7})
    assert problems({name: value for name, value in document.items() if name != "errors"})


@pytest.mark.parametrize("code", [2, 4])
def test_errors_are_in_the_same_document(code: int) -> None:
    errors = ({"line": 7, "key": "tls.mode", "message": "…", "expected": "internal, acme or custom"},)
    assert problems(document_of(Report("apply", code, errors=errors), Mask())) == []


ACTIONS: dict[str, Action] = {
    "run": Run(("x",), "why"),
    "write": Write("/x", b"", "why"),
    "remove": Remove("/x", "why"),
    "wait": Wait("it answers", "why", 9, lambda _: Probe(True)),
}


@pytest.mark.parametrize("kind", ACTIONS)
def test_each_kind_of_change_has_the_contracts_shape(kind: str) -> None:
    step = StepReport(
        "tls",
        "TLS",
        Status.CHANGED,
        changes=(replace(show(ACTIONS[kind], None, Mask()), impact=str(Impact.RESTART_VLLM)),),
    )
    document = document_of(Report("plan", 6, steps=(step,)), Mask())
    assert problems(document) == []
    assert any("[restart vllm]" in line for line in Text().lines(document))


def test_no_secret_is_in_a_document() -> None:
    mask = Mask()
    mask.add(CANARY)
    finding = Finding("tls.x", Level.WARN, CANARY, f"try {CANARY}", {CANARY: [CANARY]})
    step = StepReport("tls", "TLS", Status.OK, findings=(finding,))
    row = TestRow("api.chat", False, CANARY, 1, CANARY)
    report = Report("apply", 5, (step,), (row,), Endpoint(CANARY, CANARY, None), warnings=(CANARY,), log_path=CANARY)
    assert CANARY not in json.dumps(document_of(report, mask))


def test_failed_is_what_the_exit_code_says() -> None:
    assert {code: Report("apply", code).failed for code in range(7)} == {code: code in (1, 5) for code in range(7)}


def text_of(report: Report, *, colour: bool = False) -> str:
    return "\n".join(Text(colour=colour).lines(document_of(report, Mask())))


def test_text_of_a_failing_row_says_what_to_do() -> None:
    said = text_of(Report("apply", 5, tests=(TestRow("api.chat", False, "502", 1, "ask vLLM itself"),)))
    assert "✗ api.chat" in said and "ask vLLM itself" in said


def test_text_of_status_says_what_has_drifted_and_who_puts_it_right() -> None:
    drift = Finding("firewall.enabled", Level.DRIFT, "ufw is off", fix=(Run(("ufw", "enable"), "on"),))
    blocked = Finding("caddy.service", Level.BLOCKED, "masked", "sudo systemctl unmask caddy.service")
    steps = [StepReport("firewall", "Firewall", Status.CHANGED, 0, (drift,), ())]
    drifted = text_of(Report("status", 1, steps=tuple(steps)))
    assert "Firewall: has drifted" in drifted and drifted.endswith("put right by: sudo vllm-https-setup repair")
    steps.append(StepReport("caddy", "Caddy", Status.BLOCKED, 0, (blocked,), ()))
    assert "What is marked ✗ is yours to put right first" in text_of(Report("status", 1, steps=tuple(steps)))


def test_state_can_be_read_without_colour() -> None:
    row = TestRow("api.chat", True, "fine", 1)
    plain, coloured = text_of(Report("test", 0, tests=(row,))), text_of(Report("test", 0, tests=(row,)), colour=True)
    assert "\x1b" not in plain and "✓ api.chat" in plain
    assert "\x1b[32m✓\x1b[0m api.chat" in coloured
