"""What confines several services with vLLM, and is put in place before the restart that binds them: one each."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers import scenario
from tests.servers.scenario import Scenario
from tests.unit.altered import SCRIPT, exec_start, with_answers, with_files, with_listeners, with_unit
from tests.unit.test_confine import Absent
from tests.unit.test_uninstall import Described
from wizard import journal
from wizard.actions import compose
from wizard.book import owned_after, owned_before
from wizard.described import DescribedMachine
from wizard.engine import Look, NoWatcher, StepResult, fingerprints, walk
from wizard.facts import Facts
from wizard.harden import sandbox
from wizard.model import TIMED_OUT, Action, Level, Output, Remove, Run, Status, Wait, Write
from wizard.overlay import Overlay
from wizard.owned import Owned, OwnedFile
from wizard.reversal import Wish, carry_out
from wizard.rollback import plan_rollback, read_done
from wizard.script import Notes, write_script
from wizard.server import FileState, Listener
from wizard.steps import bind, harden
from wizard.uninstall import plan_uninstall

EMBED, EMBED_SCRIPT = "vllm-embed.service", "/opt/vllm/start-embed.sh"
MORE = f"vllm: {{more: [{{unit: {EMBED}, path: embed}}]}}"
ON = "harden: {sandbox: [vllm]}"
FIRST, SECOND = (sandbox.drop_in_of(unit).path for unit in ("vllm.service", EMBED))
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
STEPS = (bind.STEP, harden.STEP)
OUTSIDE = FileState("file", b"30 20 0:26 / / rw\n")
RELOAD = ("systemctl", "daemon-reload")


def two(answers: str = f"{MORE}\n{ON}") -> Scenario:
    return with_answers(scenario.load("several-services"), answers)


def one() -> Scenario:
    return with_answers(scenario.load("exposed"), ON)


def in_unit() -> Scenario:
    """Its unit has vLLM's command itself."""
    command = "/opt/vllm/venv/bin/vllm serve m --host 0.0.0.0 --port 8000"
    unit = f"[Service]\nUser=vllm\nExecStart={command}\n"
    server = with_files(one(), {"/etc/systemd/system/vllm.service": unit})
    return with_unit(server, ExecStart=exec_start(command))


def quiet(server: Scenario, owned: Owned | None = None) -> Look:
    """A look at a server on which nothing else is there, and every other command fails."""
    about = server.description
    pids = {pid for said in about.commands.values() for pid in re.findall(r"^MainPID=([1-9]\d*)$", said.out, re.M)}
    outside = {f"/proc/{pid}/mountinfo": OUTSIDE for pid in pids}
    machine = DescribedMachine(
        replace(
            about,
            commands=Absent(about.commands, Output(1)),  # type: ignore[arg-type]
            files=Absent({**about.files, **outside}, None),
            directories=Absent(about.directories, ()),
        )
    )
    look = replace(server.look(), server=Facts(machine))
    look.server.units(*server.units)
    return replace(look, owned=owned or look.owned)


class Failing(Overlay):
    """An overlay on which vLLM comes up as it is told, or not: `fails` is asked at each wait for it."""

    def __init__(self, look: Look, *fails: bool, code: int = 1) -> None:
        super().__init__(look.server)
        self.fails, self.code = list(fails), code

    def perform(self, action: Action) -> Output:
        if isinstance(action, Wait) and self.fails and self.fails.pop(0):
            self.performed.append(action)
            return Output(self.code, "", f"{action.what}: vLLM has failed")
        return super().perform(action)


def walked(
    server: Scenario, *fails: bool, code: int = 1, reviewed: bool = False
) -> tuple[tuple[StepResult, ...], Overlay]:
    look = quiet(server)
    overlay = Failing(look, *fails, code=code)
    agreed = fingerprints(walk(STEPS, replace(look, server=Overlay(look.server)))) if reviewed else None
    return walk(STEPS, replace(look, server=overlay), reviewed=agreed), overlay


def restarts(actions: Sequence[Action]) -> list[str]:
    return [one.argv[-1] for one in actions if isinstance(one, Run) and one.argv[:2] == ("systemctl", "restart")]


def words(actions: Sequence[Action]) -> list[str]:
    named = []
    for action in actions:
        match action:
            case Run():
                named.append(" ".join(action.argv[:3]))
            case Wait():
                named.append("wait")
            case _:
                named.append(action.path)
    return named


def text(overlay: Overlay, path: str) -> str:
    state = overlay.read(path)
    return state.text if state is not None else ""


@pytest.mark.parametrize(("make", "units"), [(one, 1), (in_unit, 1), (two, 2)])
def test_service_that_is_bound_and_confined_is_restarted_once(make: object, units: int) -> None:
    results, overlay = walked(make())  # type: ignore[operator]
    assert [one.status for one in results] == [Status.CHANGED, Status.OK], results
    assert restarts(overlay.performed) == ["vllm.service", EMBED][:units]
    said = [one for one in results[1].seen if one.key == sandbox.KEY]
    assert [one.level for one in said] == [Level.OK] * units
    assert all("of 10" not in one.summary for one in said), "how much is left is not known before"
    for number in range(units):
        at = words(overlay.performed).index(f"systemctl restart {['vllm.service', EMBED][number]}")
        before = words(overlay.performed)[:at]
        assert before[-1] == " ".join(RELOAD) and (FIRST, SECOND)[number] in before
        assert words(overlay.performed)[at + 1] == "wait", "one is waited for before the next is restarted"


def test_service_that_is_bound_already_is_confined_by_the_step_that_does_so() -> None:
    server = with_listeners(one(), Listener("127.0.0.1", 8000, "vllm", 42, "vllm.service"), without=(8000,))
    results, overlay = walked(server)
    assert [one.status for one in results] == [Status.CHANGED, Status.CHANGED]
    assert [one.key for one in results[0].seen if one.fix] == ["bind.launch_script"]
    assert restarts(results[0].actions) == [] and restarts(overlay.performed) == ["vllm.service"]


def test_what_is_not_confined_at_all_is_bound_all_the_same() -> None:
    script = scenario.load("exposed").description.files[SCRIPT]
    assert script is not None
    elevated = with_files(one(), {SCRIPT: script.text.replace("exec vllm", "sudo true\nexec vllm")})
    results, overlay = walked(elevated)
    assert overlay.read(FIRST) is None and restarts(overlay.performed) == ["vllm.service"]
    assert "uses sudo" in next(one.summary for one in results[1].seen if one.key == sandbox.KEY)


@pytest.mark.parametrize("reviewed", [False, True])
def test_service_that_does_not_come_up_confined_runs_without_it_and_stays_bound(reviewed: bool) -> None:
    """The step goes on, so that Caddy gets its turn; the next one tries again, and is what fails."""
    results, overlay = walked(one(), True, False, True, reviewed=reviewed)
    assert [one.status for one in results] == [Status.CHANGED, Status.FAILED], results
    assert "does not come up so confined" in results[1].problem
    assert overlay.read(FIRST) is None and "--host 127.0.0.1" in text(overlay, SCRIPT)
    assert restarts(overlay.performed) == ["vllm.service"] * 4
    assert "does not come up so confined" in " ".join(one.why for one in results[0].changes)


def test_service_that_fails_on_loopback_too_gets_its_old_script_back() -> None:
    results, overlay = walked(one(), True, True)
    assert [one.status for one in results] == [Status.FAILED, Status.SKIPPED]
    assert "the old one is put back" in results[0].problem and "confined" in results[0].problem
    assert overlay.read(FIRST) is None
    before = scenario.load("exposed").description.files[SCRIPT]
    assert before is not None and text(overlay, SCRIPT) == before.text
    assert words(overlay.performed)[-2:] == [SCRIPT, "systemctl restart vllm.service"]


def test_service_that_does_not_answer_in_time_is_freed_and_then_goes_on_loading() -> None:
    """Confined it may hang for ever. A model that takes longer than the answers say stays bound, as without that."""
    results, overlay = walked(one(), True, False, code=TIMED_OUT)
    assert results[0].status is Status.CHANGED
    results, overlay = walked(one(), True, True, code=TIMED_OUT)
    assert results[0].status is Status.FAILED and "the old one is put back" not in results[0].problem
    assert overlay.read(FIRST) is None and "--host 127.0.0.1" in text(overlay, SCRIPT)
    assert restarts(overlay.performed) == ["vllm.service"] * 2


@pytest.mark.parametrize("make", [one, in_unit, two])
def test_run_killed_after_any_action_is_completed(make: object) -> None:
    server: Scenario = make()  # type: ignore[operator]
    look = quiet(server)
    (first, *_), _ = walked(server)
    ended = None
    for done in range(len(first.actions) + 1):
        overlay = Overlay(look.server)
        for action in first.actions[:done]:
            overlay.perform(action)
        walk(STEPS, replace(look, server=overlay))
        units = set(restarts(overlay.performed))
        assert all(restarts(overlay.performed).count(unit) == 1 for unit in units), (done, restarts(overlay.performed))
        left = [one for step in STEPS for one in step.inspect(replace(look, server=overlay)) if one.fix]
        assert left == [], done
        differences = overlay.differences()
        ended = ended or differences
        assert differences == ended


def test_drop_in_is_the_hardening_steps_whoever_writes_it() -> None:
    """`--keep-bind` keeps what binds, and turned off later it goes with all else of that step."""
    (first, _), _ = walked(one())
    owned = Owned()
    for action in first.actions:
        belongs_to = (isinstance(action, Write | Remove) and action.step) or "bind"
        owned = owned_after(owned_before(owned, belongs_to, action, None, None), action)
    assert {path: one.step for path, one in owned.files.items()} == {SCRIPT: "bind", FIRST: "harden"}


@pytest.mark.parametrize("keep_bind", [False, True])
def test_taken_back_it_goes_with_one_restart_and_what_binds_may_stay(keep_bind: bool, own_paths: Path) -> None:
    look = quiet(one())
    server = Described(look.server)
    journal.prepare("1", {"command": "apply", "began": 0.0}, b"", {"steps": []})
    book = journal.Journal("1", look.mask)
    walk(STEPS, replace(look, server=server), book)
    book.close()
    look = replace(look, server=server, owned=book.owned)
    assert [(one.path, one.step) for one in read_done("1") if one.path] == [(SCRIPT, "bind"), (FIRST, "harden")]
    for planned in (plan_rollback("1", look, Wish(keep_bind)), plan_uninstall(look, Wish(keep_bind)).reversal):
        overlay = Overlay(look.server)
        results = carry_out(planned, replace(look, server=overlay), NoWatcher())
        assert [one.status for one in results if one.status is Status.FAILED] == []
        assert overlay.read(FIRST) is None and restarts(overlay.performed) == ["vllm.service"]
        assert ("--host 127.0.0.1" in text(overlay, SCRIPT)) is keep_bind


@pytest.mark.allow_commands("shellcheck")
def test_exported_script_puts_back_the_one_thing_and_then_the_other() -> None:
    look, notes = quiet(one()), Notes()
    results = walk(STEPS, replace(look, server=Overlay(look.server)), notes)
    text = write_script(look, results, notes, "", "now")
    subprocess.run([SHELLCHECK, "-s", "sh", "-"], input=text.encode(), check=True)
    assert text.index("install -d -m 0755 /var/lib/vllm-https-setup") < text.index("restart vllm")
    back = text[text.rindex("\nback_") : text.rindex("\nawait ")]
    in_order = [back.index(words) for words in (f"rm -f -- {FIRST}", "restart vllm", f"put_back {SCRIPT}", "await ")]
    assert in_order == sorted(in_order)


# ── several, and fewer later ──


def confined(*units: str) -> tuple[Scenario, Owned]:
    """Two services, these of which an earlier run has confined; they listen on loopback."""
    loopback = [Listener("127.0.0.1", port, "vllm", 42, unit) for port, unit in ((8000, "vllm.service"), (8001, EMBED))]
    server = with_listeners(two(), *loopback, without=(8000, 8001))
    paths = {unit: sandbox.drop_in_of(unit).path for unit in units}
    for unit, path in paths.items():
        server = with_unit(with_files(server, {path: FileState("file", b"x")}), unit, DropInPaths=path)
    return server, Owned(files={path: OwnedFile("x", None, step="harden") for path in paths.values()})


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        (ON, {FIRST}),
        (f"vllm: {{unit: {EMBED}}}\n{ON}", {SECOND}),
        (MORE, set()),
        ("", set()),
    ],
    ids=["dropped", "renamed", "turned off", "turned off and dropped"],
)
def test_service_that_is_no_longer_to_be_confined_loses_its_drop_in(answers: str, kept: set[str]) -> None:
    server, owned = confined("vllm.service", EMBED)
    look = quiet(with_answers(server, answers), owned)
    overlay = Overlay(look.server)
    look = replace(look, server=overlay)
    for action in compose(sandbox.check(look)):
        overlay.perform(action)
    assert {path for path in (FIRST, SECOND) if overlay.read(path) is not None} == kept
    assert sorted(restarts(overlay.performed)) == sorted(["vllm.service", EMBED]), "each once: confined, or free again"
    assert [one.level for one in sandbox.check(look) if one.fix] == []


def test_unit_that_is_gone_loses_its_drop_in_and_is_not_started() -> None:
    server, owned = confined("vllm.service", EMBED)
    server = with_unit(with_answers(server, ON), EMBED, LoadState="not-found", ActiveState="inactive", SubState="dead")
    (_, left) = sandbox.check(quiet(server, owned))
    assert (left.key, words(compose([left]))) == (
        sandbox.LEFT,
        [SECOND, " ".join(RELOAD), "find /etc/systemd/system/vllm-embed.service.d -maxdepth"],
    )


def test_finding_names_the_service_that_it_is_of() -> None:
    server, _ = confined()
    found = [one for one in sandbox.check(quiet(server)) if one.key == sandbox.KEY]
    assert [one.summary for one in found] == ["vllm.service is not confined", f"{EMBED} is not confined"]
    assert [one.what for one in found[1].fix if isinstance(one, Wait)] == [f"vLLM answers again ({EMBED})"]
