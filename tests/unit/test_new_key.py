"""`key new`: where the key may stand, what of its file is changed, and what is kept of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import scenario
from tests.servers.scenario import Scenario
from tests.unit.altered import ENV, SCRIPT, UNIT, exposed, with_files, with_listeners, with_unit
from wizard import journal, new_key, rollback
from wizard.actions import compose
from wizard.book import owned_after, owned_before
from wizard.engine import Look, StepResult, walk
from wizard.mask import DOTS
from wizard.model import Action, Finding, Level, Remove, Run, Secret, SetupError, Status, Wait, Write
from wizard.models import models
from wizard.overlay import Overlay
from wizard.owned import Owned
from wizard.parse.environment import parse_environment, with_value
from wizard.rollback import read_done
from wizard.server import FileState, Response
from wizard.vllm import find_vllm

NAME, NEW = "VLLM_API_KEY", "sk-" + "0a1b2c3d" * 8
OLD = "sk-of-the-test/0a1B2c3D4e5F6g7H8i9J=="


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", f"{NAME}={NEW}\n"),
        (b"# c\nA=1\n", f"# c\nA=1\n{NAME}={NEW}\n"),
        (b"A=1", f"A=1\n{NAME}={NEW}\n"),
        (f"A=1\r\n{NAME}={OLD}\r\nB='x y' \r\n".encode(), f"A=1\r\n{NAME}={NEW}\r\nB='x y' \r\n"),
        (f'  {NAME} = "{OLD}"  \n#\n'.encode(), f"  {NAME}={NEW}\n#\n"),
        (f"{NAME}=\nA=1\n".encode(), f"{NAME}={NEW}\nA=1\n"),
        (f"{NAME}={OLD}".encode(), f"{NAME}={NEW}"),
        (f"#{NAME}=x\n".encode(), f"#{NAME}=x\n{NAME}={NEW}\n"),
        (f"{NAME}=one\nA=1\n{NAME}=two\n".encode(), f"{NAME}=one\nA=1\n{NAME}={NEW}\n"),
        (f"export {NAME}={OLD}\n".encode(), f"export {NAME}={OLD}\n{NAME}={NEW}\n"),
    ],
)
def test_nothing_but_the_keys_own_line_is_changed(before: bytes, after: str) -> None:
    assert with_value(before, NAME, NEW) == after.encode()


def test_bytes_that_are_no_text_stay_what_they_are() -> None:
    assert with_value(b"A=\xff\xfe\n", NAME, NEW) == b"A=\xff\xfe\n" + f"{NAME}={NEW}\n".encode()


@pytest.mark.parametrize(
    "text", [b'A="open\nB=2\n', f'{NAME}="open\nA=1\nB=2\n'.encode(), f'{NAME}="a\nb"\nA=1\n'.encode(), b"A=1\\\n"]
)
def test_file_in_which_more_would_change_is_not_edited(text: bytes) -> None:
    assert with_value(text, NAME, NEW) is None


@given(st.text(alphabet="AVLM_PIKEY=\"'\\ #\n\t;x1", max_size=60))
def test_whatever_the_file_all_other_variables_stay(text: str) -> None:
    changed = with_value(text.encode(), NAME, NEW)
    if changed is None:
        return
    before, after = (parse_environment(one) for one in (text, changed.decode()))
    assert after.value(NAME) == NEW
    others = [[(one.name, one.value) for one in found.entries if one.name != NAME] for found in (before, after)]
    assert others[0] == others[1]


def test_key_means_nothing_to_a_shell_or_to_systemd() -> None:
    keys = {new_key.make_key().reveal() for _ in range(50)}
    assert len(keys) == 50
    assert all(re.fullmatch(r"sk-[0-9a-f]{64}", key) for key in keys)


def walked(server: Scenario) -> tuple[Look, StepResult, Overlay]:
    look, overlay = server.overlaid()
    (result,) = walk(new_key.steps(proved=False), look)
    return look, result, overlay


def test_key_is_written_taken_up_and_waited_for_and_shown_nowhere() -> None:
    look, result, overlay = walked(exposed())
    assert result.status is Status.CHANGED, result
    write, run, wait = result.actions
    assert isinstance(write, Write) and isinstance(run, Run) and isinstance(wait, Wait)
    assert (write.path, write.lasting, write.keep_attributes, run.argv) == (
        ENV,
        True,
        True,
        ("systemctl", "restart", "vllm.service"),
    )
    state = overlay.read(ENV)
    assert state is not None
    key = parse_environment(state.text).value(NAME)
    assert key is not None
    assert look.mask.text(f"a line with {key}") == f"a line with {DOTS}"
    assert result.changes[0].diff == DOTS
    assert key not in repr(result)
    assert list(new_key.for_clients(result.after)) == [
        f"clients need the new API key. It is shown by: sudo grep {NAME} {ENV}"
    ]


def test_neither_key_is_kept_or_brought_back() -> None:
    _, result, _ = walked(exposed())
    owned = Owned()
    for action in (*result.actions, *result.actions[0].otherwise):
        owned = owned_after(owned_before(owned, "preflight", action, FileState("file", b"x"), "/backup"), action)
    assert owned == Owned()


NO_KEY = "# Secrets\nHF_HOME=/x\n"
EXPORTED = f"#!/bin/bash\nexport {NAME}={OLD}\nexec vllm serve m --port 8000\n"
PLACES: dict[str, tuple[Scenario, tuple[str, ...]]] = {
    "an argument of the launch script": (
        with_files(exposed(), {SCRIPT: f"#!/bin/bash\nexec vllm serve m --api-key {OLD} --port 8000\n"}),
        (SCRIPT, "take it out there", "--api-key"),
    ),
    "made up by the launch script": (
        with_files(exposed(), {ENV: NO_KEY, SCRIPT: EXPORTED.replace(OLD, "$(openssl rand -hex 32)")}),
        (SCRIPT, "take it out there"),
    ),
    "a line of the launch script": (
        with_files(exposed(), {ENV: NO_KEY, SCRIPT: EXPORTED}),
        (f"is set in {SCRIPT}", f"take {NAME} out there"),
    ),
    "the unit's environment": (
        with_files(
            with_unit(exposed(), EnvironmentFiles=""),
            {UNIT: f"[Service]\nEnvironment={NAME}={OLD}\nExecStart={SCRIPT}\n"},
        ),
        (f"is set in {UNIT}", "daemon-reload"),
    ),
    "no env file": (
        with_unit(exposed(), EnvironmentFiles=""),
        ("has no env file", "EnvironmentFile=/etc/vllm/vllm.env"),
    ),
    "an env file that is a link": (
        with_files(exposed(), {ENV: FileState("link", b"/srv/env"), "/srv/env": f"{NAME}={OLD}\n"}),
        (f"{ENV} is a link",),
    ),
    "an open quote": (with_files(exposed(), {ENV: 'A="open\nB=2\n'}), ("a quote in it is not closed",)),
    "vLLM that does not run": (
        with_listeners(with_unit(exposed(), ActiveState="inactive", SubState="dead"), without=(8000,)),
        ("does not run", "sudo systemctl start vllm.service"),
    ),
    "no such unit": (
        with_unit(exposed(), LoadState="not-found", ActiveState="inactive"),
        ("there is no vllm.service",),
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_key_in_another_place_is_not_replaced_and_what_to_do_is_said(place: str) -> None:
    server, words = PLACES[place]
    _, result, overlay = walked(server)
    assert result.status is Status.BLOCKED, result
    (found,) = (one for one in result.seen if one.level is Level.BLOCKED)
    assert found.key == new_key.PLACE
    said = f"{found.summary} {found.remedy}"
    assert [word for word in words if word not in said] == [], said
    assert OLD not in said and overlay.performed == []


def test_env_file_that_the_unit_names_and_that_is_gone_is_made_for_root_alone() -> None:
    _, result, overlay = walked(with_files(exposed(), {ENV: None}))
    assert result.status is Status.CHANGED
    state = overlay.read(ENV)
    assert state is not None and (state.mode, state.owner, state.group) == (0o600, "root", "root")


class Answering(Overlay):
    """vLLM that answers each key as it is told."""

    statuses: Mapping[str, int] = {}

    def vllm_ready(self, request: object) -> Response:
        bearer: Secret | None = request.bearer  # type: ignore[attr-defined]
        return Response(self.statuses[bearer.reveal() if bearer else ""])


@pytest.mark.parametrize(
    ("statuses", "old", "done"),
    [
        ({NEW: 200, OLD: 401, "": 401}, OLD, True),
        ({NEW: 200, OLD: 200, "": 401}, OLD, False),
        ({NEW: 401, OLD: 200, "": 401}, OLD, False),
        ({NEW: 200, "": 200, OLD: 200}, None, False),
        ({NEW: 200, "": 401, OLD: 401}, None, True),
    ],
)
def test_it_is_done_only_where_the_new_key_opens_and_the_old_one_does_not(
    statuses: dict[str, int], old: str | None, done: bool
) -> None:
    look = with_files(exposed(), {ENV: f"{NAME}={OLD}\n"}).look()
    server = Answering(look.server)
    server.statuses = statuses
    taken = new_key.Taken(replace(look, server=server), Secret(NEW), Secret(old) if old else None)
    found = taken(server)
    assert found.done is done
    assert NEW not in found.words and OLD not in found.words


# ── several services ──

EMBED, EMBED_ENV = "vllm-embed.service", "/etc/vllm/embed.env"
FIRST = "vllm.service"


def two(*, shared: bool = False) -> Scenario:
    server = scenario.load("several-services")
    return with_unit(server, EMBED, EnvironmentFiles=f"{ENV} (ignore_errors=no)") if shared else server


def told(actions: Sequence[Action]) -> list[str]:
    return [
        one.path if isinstance(one, Write) else one.argv[-1] if isinstance(one, Run) else "wait"
        for one in actions
        if not isinstance(one, Remove)
    ]


@pytest.mark.parametrize(
    ("unit", "shared", "done", "kept"),
    [
        ("", False, [ENV, FIRST, "wait"], [EMBED]),
        (EMBED, False, [EMBED_ENV, EMBED, "wait"], [FIRST]),
        ("", True, [ENV, FIRST, "wait", EMBED, "wait"], []),
        (EMBED, True, [ENV, EMBED, "wait", FIRST, "wait"], []),
    ],
)
def test_every_service_that_takes_the_key_from_the_file_takes_it_up_and_no_other(
    unit: str, shared: bool, done: list[str], kept: list[str]
) -> None:
    look, _ = two(shared=shared).overlaid()
    (result,) = walk(new_key.steps(proved=False, unit=unit), look)
    assert result.status is Status.CHANGED, result
    assert told(result.actions) == done
    assert [one.evidence["unit"] for one in result.seen if one.key == new_key.KEPT] == kept
    (said,) = new_key.for_clients(result.after)
    assert ("clients of vllm.service and vllm-embed.service need" in said) is shared
    (made,) = (one for one in result.after if one.key == new_key.MADE)
    assert made.evidence["units"] == ([FIRST, EMBED] if shared else [unit or FIRST])


def test_second_service_that_fails_with_the_key_gives_both_the_old_one_back() -> None:
    _, result, _ = walked(two(shared=True))
    first, second = (one for one in result.actions if isinstance(one, Wait))
    assert told(compose([Finding("a.b", Level.DRIFT, "", fix=first.otherwise)])) == [ENV, FIRST]
    back = compose([Finding("a.b", Level.DRIFT, "", fix=second.otherwise)])
    assert told(back) == [ENV, FIRST, "wait", EMBED]
    assert result.actions[3].otherwise == second.otherwise, "also where its restart fails"


TAKES = {
    "the same file": ("", ENV, True),
    "another one": ("", EMBED_ENV, False),
    "the same and a later one with a key": ("", f"{ENV}\n{EMBED_ENV}", False),
    "the same after another with a key": ("", f"{EMBED_ENV}\n{ENV}", True),
    "the same, and an argument": ("--api-key sk-other", ENV, False),
    "the same, and does not run": ("stopped", ENV, False),
}


@pytest.mark.parametrize("case", TAKES)
def test_service_takes_a_key_from_a_file_where_nothing_later_sets_another(case: str) -> None:
    words, environment_files, takes = TAKES[case]
    shown = "\n".join(f"{path} (ignore_errors=no)" for path in environment_files.split("\n"))
    server = with_unit(two(), EMBED, EnvironmentFiles=shown)
    if words == "stopped":
        server = with_unit(server, EMBED, ActiveState="inactive", SubState="dead")
    elif words:
        script = server.description.files["/opt/vllm/start-embed.sh"]
        assert script is not None
        changed = script.text.replace("vllm serve org/embed", f"vllm serve org/embed {words}")
        server = with_files(server, {"/opt/vllm/start-embed.sh": changed})
    (_, second) = models(server.look())
    assert new_key.takes_from(find_vllm(second.look), ENV) is takes


def test_unit_that_no_answer_names_is_refused_with_those_that_are_there() -> None:
    answers = two().look().answers
    assert [new_key._served(unit, answers) for unit in ("", FIRST, "vllm", EMBED, "vllm-embed")] == [
        *("", "", "", EMBED, EMBED)
    ]
    with pytest.raises(
        SetupError, match=r"^b\.service is no service of the answers: vllm\.service, vllm-embed\.service$"
    ):
        new_key._served("b", answers)


def test_key_of_another_unit_that_was_cut_off_is_not_taken_for_completed() -> None:
    cut_off = replace(past("1", "key"), unit=EMBED)
    assert journal.what_completes(cut_off) == f"`key new --unit {EMBED}` completes it, with another key"
    assert journal.what_completes(past("1", "key")) == "`key new` completes it, with another key"


def past(run: str, command: str) -> journal.PastRun:
    return journal.PastRun(run, command, 0, 1, 0, True, True)


def test_rollback_of_a_key_says_that_none_is_brought_back(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [past("3", "key"), past("2", "apply"), past("1", "key")]
    monkeypatch.setattr(journal, "past_runs", lambda: iter(runs))
    with pytest.raises(SetupError, match="an older key is not brought back") as raised:
        rollback.choose_run(None)
    assert raised.value.remedy.endswith("rollback 2")
    assert rollback.choose_run("2") == "2"
    with pytest.raises(SetupError, match="run 1 made a new API key"):
        rollback.choose_run("1")


def test_rollback_of_a_run_that_wrote_a_lasting_file_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    change = {"kind": "write", "path": ENV, "why": "a key", "impact": "none"}
    known: dict[str, object] = {
        "backup": None,
        "undo": [],
        "then": [],
        "sha256": None,
        "keeps_attributes": True,
        "lasting": True,
    }
    began = {"event": "action_began", "step": "preflight", "change": change, **known}
    monkeypatch.setattr(journal, "read_events", lambda run: ([began, {"event": "action_ended", "ok": True}], 0))
    (done,) = read_done("1")
    assert (done.path, done.before, done.action) == ("", None, Run((), "a key"))
