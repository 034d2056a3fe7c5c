"""Several services with vLLM: each is looked at as if it were alone, and no finding leaves open which one it is of."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from tests.servers import scenario
from tests.servers.gateway import DescribedGateway
from tests.unit.altered import SCRIPT, findings, with_answers, with_files, with_listeners, with_new_command
from tests.unit.test_plain import ENTER, walk
from wizard import checked
from wizard.actions import compose
from wizard.answers import Vllm, dump, load
from wizard.caddyfile import render_caddyfile, render_metrics, render_site
from wizard.clients import checks, summarize, text
from wizard.endpoint import base_url, endpoint_host, find_hosts
from wizard.engine import Look
from wizard.harden import metrics
from wizard.model import Action, Endpoint, Finding, Impact, Level, Report, Run, Served, Then, Wait, Write
from wizard.models import Model, further, models
from wizard.queries import show_units
from wizard.report import Text, document_of
from wizard.server import Listener
from wizard.steps import bind, preflight
from wizard.steps.https_test import together
from wizard.vllm import find_vllm
from wizard.vllm_candidates import path_for

EMBED = "vllm-embed.service"
BY_PATH = f"vllm: {{more: [{{unit: {EMBED}, path: embed}}]}}"
BY_NAME = f"vllm: {{more: [{{unit: {EMBED}, host: embed.example.com, port: 8005, ready_timeout: 60}}]}}"


def look_with(text_: str, *, kept: bool = False, name: str = "several-services") -> Look:
    """A look at a described server with these answers; `kept`: as they are read where they were checked before."""
    look = with_answers(scenario.load(name), text_).look()
    if kept:
        content = f"version: 1\ntls: {{mode: internal}}\n{text_}\n".encode()
        again = checked.load(content, checked.keep(content, look.answers))
        assert not hasattr(again, "model_dump"), "these are not the checking library's"
        look = dataclasses.replace(look, answers=again)
    return look


@pytest.mark.parametrize("kept", [False, True], ids=["checked now", "checked before"])
def test_each_service_is_looked_at_as_if_it_were_alone(kept: bool) -> None:
    look = look_with(f"{BY_PATH}\ntest: {{model: phi-4-mini}}", kept=kept)
    first, second = models(look)
    assert (first.name, first.look) == ("", look)
    assert (second.name, second.look.prefix, second.unit) == ("embed", "/embed", EMBED)
    assert [find_vllm(one.look).port for one in (first, second)] == [8000, 8001]
    assert base_url(second.look) == base_url(look).replace("/v1", "/embed/v1")
    assert second.look.answers.test.model == "auto", "the first one's model is none of the second's"
    assert further(second.look) == ()
    assert look.answers.vllm.unit == "vllm.service" and look.answers.test.model == "phi-4-mini", "nothing is changed"


@pytest.mark.parametrize("kept", [False, True], ids=["checked now", "checked before"])
def test_service_with_a_name_of_its_own_has_that_for_its_endpoint(kept: bool) -> None:
    look = look_with(BY_NAME, kept=kept)
    (second,) = further(look)
    assert (second.name, second.look.prefix) == ("embed.example.com", "")
    assert (endpoint_host(second.look), base_url(second.look)) == ("embed.example.com", "https://embed.example.com/v1")
    assert second.look.answers.vllm.port == 8005 and second.look.answers.vllm.ready_timeout == 60
    assert "embed.example.com" not in find_hosts(look)


def test_name_of_a_service_is_not_the_first_ones_too() -> None:
    """/etc/hosts may call this server by it, and hosts are found there."""
    server = with_answers(scenario.load("several-services"), "vllm: {more: [{unit: a.service, host: llm.lan}]}")
    server = with_files(server, {"/etc/hosts": "127.0.1.1 llm llm.lan llm.home\n"})
    assert [one for one in find_hosts(server.look()) if one.startswith("llm")] == ["llm", "llm.home"]


def test_findings_of_a_further_service_say_so_and_how_it_is_answered_for() -> None:
    look = look_with(BY_PATH)
    (second,) = further(look)
    wait = Wait("vLLM answers", "", 1, lambda server: None)  # type: ignore[arg-type,return-value]
    said = list(
        second.findings(
            [
                Finding("a.b", Level.WARN, "is loose", "answer vllm: {launch_script: /path}"),
                Finding("a.b", Level.OK, f"{EMBED} runs"),
                Finding("a.c", Level.DRIFT, "loads", fix=(wait,)),
            ]
        )
    )
    assert [one.summary for one in said] == [f"{EMBED}: is loose", f"{EMBED} runs", f"{EMBED}: loads"]
    assert said[0].remedy == f"answer vllm: {{more: [{{unit: {EMBED}, …, launch_script: /path}}]}}"
    assert {one.evidence["unit"] for one in said} == {EMBED}
    assert [one.what for one in said[2].fix if isinstance(one, Wait)] == [f"vLLM answers ({EMBED})"]
    first = Finding("a.b", Level.OK, "said")
    assert list(Model(look).findings([first])) == [first], "the first is told as where it is the only one"


# ── the Caddyfile ──


def handles(caddyfile: str) -> dict[str, str]:
    """Each handle of a path, with its block."""
    found = re.findall(r"^\thandle (\S*/v1/\*) \{\n(.*?)^\t\}\n", caddyfile, re.M | re.S)
    return dict(found)


def test_caddyfile_without_more_is_what_it_was() -> None:
    finished = scenario.load("finished")
    recorded = finished.description.files["/etc/caddy/Caddyfile"]
    assert recorded is not None
    look = finished.look()
    assert render_caddyfile(look, find_vllm(look).upstream).encode() == recorded.content


def test_service_with_a_path_has_the_same_rules_as_the_first() -> None:
    text_ = f"{BY_PATH}\nharden: {{max_body: 5MB, max_requests: 7, allow_from: [10.0.0.0/8]}}"
    blocks = handles(render_caddyfile(look_with(text_), "127.0.0.1:8000"))
    assert list(blocks) == ["/v1/*", "/embed/v1/*"]
    own = [line for line in blocks["/embed/v1/*"].splitlines() if line not in blocks["/v1/*"].splitlines()]
    assert [line.strip() for line in own] == [
        f"# {EMBED}: to it this is /v1/*, as to the first.",
        "uri strip_prefix /embed",
        "reverse_proxy 127.0.0.1:8001 {",
    ]
    assert len(blocks["/embed/v1/*"].splitlines()) == len(blocks["/v1/*"].splitlines()) + 2


def test_service_with_a_name_is_a_site_of_its_own_without_the_operators_additions() -> None:
    look = look_with(BY_NAME)
    first, second = render_site(look, "127.0.0.1:8000").split("\nhttps://embed.example.com {\n")
    assert ("127.0.0.1:8005" in first, "127.0.0.1:8000" in second) == (False, False)
    assert ("import /etc/caddy" in first, "import /etc/caddy" in second) == (True, False)
    assert ("roll_keep" in first, "roll_keep" in second) == (True, False), "they share one log"
    assert "embed.example.com" not in first
    imported = render_site(look, "127.0.0.1:8000", imported=True)
    hostnames = re.findall(r"hostnames (.*)", imported)
    assert hostnames[1] == "embed.example.com", "a log of an imported site is found by its hosts"


@pytest.mark.parametrize(
    ("more", "path", "upstream"),
    [(BY_PATH, "/vllm/embed", "127.0.0.1:8001"), (BY_NAME, "/vllm/embed.example.com", "127.0.0.1:8005")],
)
def test_metrics_of_each_service_are_at_its_path_or_name_for_scrapers_alone(
    more: str, path: str, upstream: str
) -> None:
    scrapers = "harden: {metrics_from: [10.0.0.9]}"
    look = look_with(f"{more}\n{scrapers}")
    site = render_metrics(look, "127.0.0.1:8000")
    handled = re.findall(r"^\t\thandle (\S+) \{\n\t\t\trewrite \* /metrics\n\t\t\treverse_proxy (\S+) ", site, re.M)
    assert handled == [("/vllm", "127.0.0.1:8000"), (path, upstream)]
    assert site.index("respond @stranger 403") < site.index("handle /caddy") and site.count("@stranger not") == 1
    alone = render_metrics(look_with(scrapers), "127.0.0.1:8000")
    assert [line for line in alone.splitlines() if line not in site.splitlines()] == []
    assert f"http://…:9180/caddy, /vllm and {path}, for 10.0.0.9 alone" in next(metrics.check(look)).summary
    assert render_metrics(look_with(more), "127.0.0.1:8000") == ""


# ── preflight and bind ──


def test_two_services_with_one_port_are_refused() -> None:
    found = findings(
        with_answers(scenario.load("several-services"), f"vllm: {{port: 8001, more: [{{unit: {EMBED}, path: e}}]}}")
    )
    assert found["vllm_port"].level is Level.BLOCKED
    assert found["vllm_port"].summary == f"{EMBED} has the same port as vllm.service, 8001"
    assert "vllm_port" not in findings(scenario.load("several-services"))


def test_service_that_no_answer_names_is_told_of() -> None:
    server = with_answers(scenario.load("several-services"), "")
    found = findings(server)["other_vllm"]
    assert found.level is Level.WARN and "0.0.0.0:8001" in found.summary
    assert found.remedy == f"to serve it as well, add to the answers: {BY_PATH}"
    assert load(f"version: 1\ntls: {{mode: internal}}\n{BY_PATH}".encode()).vllm.more[0].unit == EMBED
    inside = with_listeners(server, Listener("127.0.0.1", 8001, "vllm", 9, EMBED), without=[8001])
    found = findings(inside)["other_vllm"]
    assert found.level is Level.INFO and BY_PATH in found.summary
    assert "other_vllm" not in findings(scenario.load("several-services")), "one that is answered for"


@pytest.mark.parametrize(
    ("listener", "unit_file", "told"),
    [
        (Listener("0.0.0.0", 9001, "python3", 9, "llm-b.service"), "-m vllm.entrypoints.openai.api_server", True),
        (Listener("0.0.0.0", 9001, "python3", 9, "llm-b.service"), "-m somebody.elses", False),
        (Listener("0.0.0.0", 9001, "VLLM::APIServer", 9, "b.service"), "", True),
        (Listener("0.0.0.0", 9001, "vllm", 9, "session-4.scope"), "", False),
        (Listener("0.0.0.0", 9001, "node_exporter", 9, "vllm-exporter.service"), "", False),
    ],
    ids=["api_server", "other Python", "renamed process", "no service", "other program"],
)
def test_vllm_is_known_by_its_process_or_by_what_its_unit_starts(
    listener: Listener, unit_file: str, told: bool
) -> None:
    server = with_listeners(scenario.load("exposed"), listener)
    if unit_file:
        text_ = f"[Service]\nExecStart=/opt/venv/bin/python3 {unit_file}\n"
        server = with_files(server, {f"/etc/systemd/system/{listener.unit}": text_})
    assert ("other_vllm" in findings(server)) == told


@pytest.mark.parametrize(
    ("unit", "taken", "path"),
    [
        (EMBED, [], "embed"),
        (EMBED, ["embed"], "embed-2"),
        ("vllm@Phi-4.service", [], "phi-4"),
        ("vllm2.service", [], "2"),
        ("v2.service", [], "modelv2"),
        ("vllm.service", ["model"], "model-2"),
    ],
)
def test_path_that_is_proposed_is_a_right_answer(unit: str, taken: list[str], path: str) -> None:
    assert path_for(unit, taken) == path
    load(f"version: 1\ntls: {{mode: internal}}\nvllm: {{more: [{{unit: b.service, path: '{path}'}}]}}".encode())


def test_missing_service_is_not_looked_for_among_those_that_are_served() -> None:
    server = with_answers(scenario.load("several-services"), "vllm: {more: [{unit: vllm-x.service, path: x}]}")
    shown = "Id=vllm-x.service\nLoadState=not-found\nActiveState=inactive\n"
    server = with_new_command(server, show_units("vllm-x.service"), shown)
    directories = {
        "/etc/systemd/system": ("vllm.service", EMBED),
        "/run/systemd/system": (),
        "/usr/local/lib/systemd/system": (),
        "/usr/lib/systemd/system": (),
    }
    server = with_files(server, {}, directories)
    (missing,) = [
        one
        for one in preflight.inspect(server.look())
        if one.key == "preflight.vllm_unit" and one.level is Level.BLOCKED
    ]
    assert missing.summary == f"there is no vllm-x.service; vLLM is started by {EMBED}"
    server = with_answers(server, "vllm: {unit: vllm-x.service}")
    (missing,) = [one for one in preflight.inspect(server.look()) if one.key == "preflight.vllm_unit"]
    assert missing.summary == f"there is no vllm-x.service; vLLM is started by vllm.service, {EMBED}"


def test_services_that_are_seen_can_be_chosen_and_those_answered_for_left_out() -> None:
    server = with_answers(scenario.load("several-services"), "")
    look = server.look()
    seen = list(preflight.inspect(look))
    (asked,) = [one for one in preflight.ask(look, seen) if one.key == "vllm.more"]
    assert [one.value for one in asked.choices] == [{"unit": EMBED, "path": "embed"}]
    known = scenario.load("several-services").look()
    (asked,) = [one for one in preflight.ask(known, []) if one.key == "vllm.more"]
    assert asked.choices[0].value == {"unit": EMBED, "path": "embed"}
    alone = scenario.load("exposed").look()
    assert [one for one in preflight.ask(alone, list(preflight.inspect(alone))) if one.key == "vllm.more"] == []


def named(action: Action) -> str:
    match action:
        case Run():
            return action.argv[-1]
        case Wait():
            return action.what
        case _:
            return action.path


def test_each_service_is_bound_restarted_and_waited_for_before_the_next() -> None:
    found = list(bind.inspect(scenario.load("several-services").look()))
    done = [named(one) for one in compose(found)]
    assert done == [
        *(SCRIPT, "vllm.service", "vLLM answers on 127.0.0.1:8000"),
        *("/opt/vllm/start-embed.sh", EMBED, f"vLLM answers on 127.0.0.1:8001 ({EMBED})"),
    ]


def test_what_is_told_first_is_told_before_each_that_needs_it() -> None:
    """systemd goes by the unit that it has read: of two edited units each is read before its service is restarted."""
    reread = Then(("systemctl", "daemon-reload"), "read", Impact.NONE)
    writes = [
        Write(f"/etc/{one}", b"", "edited", then=(reread, Then(("systemctl", "restart", one), "", Impact.RESTART_VLLM)))
        for one in ("a", "a2", "b")
    ]
    writes[1] = dataclasses.replace(writes[1], then=writes[0].then)
    done = [named(one) for one in compose([Finding("a.b", Level.DRIFT, "", fix=tuple(writes))])]
    assert done == ["/etc/a", "/etc/a2", "daemon-reload", "a", "/etc/b", "daemon-reload", "b"]


# ── the final test, and the report ──


def test_verdict_on_several_services_is_the_worst_and_says_whose() -> None:
    look = scenario.load("several-services").look()
    found = [find_vllm(one.look) for one in models(look)]
    good, bad, unknown = (True, "closed", None), (False, "open", "close it"), (None, "nowhere", None)
    assert together(found, [good, good]) == (True, f"vllm.service: closed; {EMBED}: closed", None)
    assert together(found, [good, bad]) == (False, f"{EMBED}: open", "close it")
    assert together(found, [bad, unknown]) == (False, "vllm.service: open", "close it")
    assert together(found, [good, unknown]) == (None, f"{EMBED}: nowhere", None)
    assert together(found[:1], [good]) == good, "of one service as ever"


def test_second_services_rows_are_its_own() -> None:
    rows = {row.id: row for row in scenario.load("several-services-finished").tested()}
    assert (
        rows["api.models"].detail == "200; lists phi-4-mini" and rows["api.models.embed"].detail == "200; lists embed"
    )
    asked = {question[0] for question in scenario.load("several-services-finished").description.exchanges}
    assert any("/embed/v1/%2e%2e/version" in one for one in asked), "what must stay closed is tried below the prefix"
    assert "tls.trusted.embed" not in rows, "one name has one certificate"


def document(*rows: str) -> dict[str, object]:
    server = scenario.load("several-services-finished")
    tests = tuple(dataclasses.replace(row, ok=False) if row.id in rows else row for row in server.tested())
    more = (Served("https://h/embed/v1", "embed"),)
    steps = tuple(result.planned() for result in server.planned())
    report = Report("apply", 0, steps=steps, tests=tests, endpoint=Endpoint("https://h/v1", "phi", None, more))
    return document_of(report, server.look().mask)


def test_report_and_summary_name_every_address_model_and_key() -> None:
    found = document()
    assert found["endpoint"] == {
        "base_url": "https://h/v1",
        "model": "phi",
        "ca_file": None,
        "more": [{"base_url": "https://h/embed/v1", "model": "embed"}],
    }
    assert "https://h/embed/v1  embed" in "\n".join(Text().lines(found))
    said = text(summarize(found, scenario.load("several-services-finished").look().answers))
    assert "sudo grep VLLM_API_KEY /etc/vllm/vllm.env" in said
    assert re.search(r"https://h/embed/v1\n\nModel   embed\nKey     sudo grep VLLM_API_KEY /etc/vllm/embed.env", said)


def test_endpoint_of_one_service_is_told_as_ever() -> None:
    assert json.dumps(Endpoint("u", "m", None).as_json()) == '{"base_url": "u", "model": "m", "ca_file": null}'


def test_claim_is_not_made_where_it_fails_for_a_further_service() -> None:
    assert all(ok for ok, _ in checks(document(), "internal"))
    assert (True, "port 8000 and 8001 closed, proved by packets") in checks(document(), "internal")
    assert (False, "no 401 without a key") in checks(document("api.unauthorized.embed"), "internal")


def test_wizard_offers_the_second_service_and_names_its_address_at_the_end() -> None:
    known = scenario.load("several-services")
    answers = dump(load(known.description.answers).model_copy(update={"vllm": Vllm()})).encode()
    server = dataclasses.replace(known, description=dataclasses.replace(known.description, answers=answers))
    gateway = DescribedGateway(server, rows=scenario.load("several-services-finished").tested())
    code, shown = walk(gateway, ENTER, "1", *[ENTER] * 12, "y", *[ENTER] * 3)
    assert "1  yes  vllm-embed.service as embed" in shown
    assert [draft.data["vllm"] for draft in gateway.started] == [{"more": [{"unit": EMBED, "path": "embed"}]}]
    assert code == 0 and "/embed/v1\n\nModel   embed\n" in shown
