"""Undo: newest first, each file as it was before its first touch, each service told once, last."""

from __future__ import annotations

from wizard.model import Action, FileIs, Impact, ListensOn, Probe, Remove, Run, Then, Wait, Write
from wizard.server import FileState
from wizard.undo import undo_actions

OLD = FileState("file", b"old", 0o640, "root", "caddy")
BACK = Then(("systemctl", "reload", "a.service"), "back", Impact.NONE, makes=(ListensOn("a.service", ()),))
TELL = Then(("systemctl", "reload", "a.service"), "forth", Impact.RELOAD_CADDY, back=BACK)


def write(path: str, content: bytes = b"new", *then: Then, keep: bool = False) -> Write:
    return Write(path, content, "why", then=then, keep_attributes=keep)


def words(actions: tuple[Action, ...]) -> list[str]:
    return [
        " ".join(one.argv) if isinstance(one, Run) else f"{type(one).__name__} {getattr(one, 'path', '')}"
        for one in actions
    ]


def test_nothing_performed_is_nothing_to_take_back() -> None:
    assert undo_actions([]) == ()
    assert undo_actions([(Wait("it", "why", 1, lambda _: Probe(True)), None)]) == ()


def test_newest_is_taken_back_first() -> None:
    made = [Run((name,), "why", undo=(Run((f"un{name}",), "why"),)) for name in ("one", "two")]
    actions = undo_actions([(made[0], None), (write("/new"), None), (Run(("asked",), "why"), None), (made[1], None)])
    assert words(actions) == ["untwo", "Remove /new", "unone"]


def test_file_becomes_what_it_was_with_its_attributes() -> None:
    (action,) = undo_actions([(write("/a"), OLD)])
    assert isinstance(action, Write)
    assert (action.content, action.mode, action.owner, action.group) == (b"old", 0o640, "root", "caddy")
    (action,) = undo_actions([(Remove("/a", "why"), OLD)])
    assert isinstance(action, Write) and action.content == b"old"


def test_file_touched_twice_becomes_what_it_was_before_the_first_time() -> None:
    between = FileState("file", b"new")
    first, second = (write("/a"), OLD), (write("/a", b"newer"), between)
    other = (Run(("use", "/a"), "why", undo=(Run(("unuse",), "why"),)), None)
    actions = undo_actions([first, other, second])
    assert words(actions) == ["unuse", "Write /a"]
    assert isinstance(actions[1], Write) and actions[1].content == b"old"


def test_file_that_ended_as_it_began_is_left_alone_and_nobody_is_told() -> None:
    put_back = (write("/a", b"old", TELL, keep=True), FileState("file", b"new"))
    assert undo_actions([(write("/a", b"new", TELL), OLD), put_back]) == ()
    assert undo_actions([(write("/a"), None), (Remove("/a", "why"), FileState("file", b"new"))]) == ()


def test_file_with_other_attributes_did_not_end_as_it_began() -> None:
    assert words(undo_actions([(write("/a", b"old"), OLD)])) == ["Write /a"]


def test_services_are_told_once_after_their_files_as_the_first_touch_knew_them() -> None:
    later = Then(("systemctl", "reload", "a.service"), "forth", Impact.NONE, back=None)
    actions = undo_actions([(write("/a", b"new", TELL), None), (write("/b", b"new", TELL, later), OLD)])
    assert words(actions) == ["Write /b", "Remove /a", "systemctl reload a.service"]
    assert isinstance(actions[2], Run) and actions[2].makes == BACK.makes


def test_service_without_a_way_back_is_told_the_same_again() -> None:
    then = Then(("systemctl", "restart", "b.service"), "why", Impact.RESTART_VLLM, makes=(FileIs("/x", b""),))
    actions = undo_actions([(write("/a", b"new", then), OLD)])
    assert words(actions) == ["Write /a", "systemctl restart b.service"]
    assert isinstance(actions[1], Run) and (actions[1].makes, actions[1].impact) == ((), Impact.RESTART_VLLM)


def test_what_was_no_regular_file_is_left_as_it_is() -> None:
    assert undo_actions([(write("/a"), FileState("link", b"/b"))]) == ()
