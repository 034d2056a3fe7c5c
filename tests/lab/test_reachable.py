"""Nothing is cut off: a run outlives who started it."""

import pytest

from tests.lab.operator import Operator, began, done, in_words

pytestmark = pytest.mark.lab


def log_ends(operator: Operator) -> str:
    """The log of the last run, once that has ended."""
    with operator.start("log --follow") as following:
        following.end()
    return operator.say("log").stdout


def kill_sudo(operator: Operator) -> None:
    """SIGKILL to the sudo that started the program inside, and to the session's shell."""
    pids = operator.server.run(["pgrep", "-x", "sudo"]).stdout.split()
    operator.server.run(["kill", "-KILL", *pids])


def assert_run_went_to_its_end(operator: Operator) -> None:
    run = operator.runs()[-1]
    log = log_ends(operator)
    assert [event for event in operator.events(run) if event["event"] == "test" and event["ok"] is not True] == []
    assert "ended with exit code 0" in log.splitlines()[-1]
    assert f"{run} " in operator.say("runs").stdout
    assert "exit code 0, changed this server" in operator.say("runs").stdout
    assert operator.file(f"/var/lib/vllm-https-setup/runs/{run}/report.json")
    assert operator.events(run)[-1]["event"] == "end"
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)


@pytest.mark.parametrize("tty", [False, True], ids=["without a terminal", "with a terminal"])
@pytest.mark.parametrize("moment", ["ufw --force enable", "apt-get install"])
def test_run_survives_the_death_of_its_ssh_connection(operator: Operator, moment: str, tty: bool) -> None:
    with operator.start(tty=tty) as apply:
        operator.wait_for(began(moment))
        apply.cut()
    assert_run_went_to_its_end(operator)


@pytest.mark.parametrize("tty", [False, True], ids=["without a terminal", "with a terminal"])
def test_run_survives_the_death_of_its_sudo(operator: Operator, tty: bool) -> None:
    with operator.start(tty=tty) as apply:
        operator.wait_for(began("systemctl restart vllm"))
        kill_sudo(operator)
        apply.end()
    assert_run_went_to_its_end(operator)


def test_second_apply_meanwhile_is_told_who_is_at_work(operator: Operator) -> None:
    with operator.start() as first:
        operator.wait_for(began("systemctl restart vllm"))
        second = operator.say("apply --answers answers.yaml")
        document = operator.ask("repair")
        listed = operator.say("runs").stdout
        assert first.end().code == 0
    run = operator.runs()[-1]
    assert second.code == 4
    assert f"another run is under way: apply {run}, since" in second.stderr
    assert "log --follow" in second.stderr
    assert document["exit_code"] == 4
    assert run in document["errors"][0]["message"]
    assert "under way" in listed
    assert len(operator.runs()) == 1


def test_ctrl_c_stops_the_run_after_the_action_it_is_at(operator: Operator) -> None:
    operator.server.standin(load_seconds=2)
    with operator.start(tty=True) as apply:
        operator.wait_for(began("vLLM answers"))
        pid = operator.server.run(["pgrep", "-f", "^/opt/vllm-https-setup/bin/python.* apply "]).stdout.split()[-1]
        operator.server.run(["kill", "-INT", pid])
        ended = apply.end()
    assert ended.code == 1
    assert "stopped as asked" in ended.stdout
    assert in_words(done(operator.events()))[-1] == "wait vLLM answers on 127.0.0.1:8000"
    assert operator.events()[-1]["event"] == "end"
    after = operator.apply()
    assert after["exit_code"] == 0
    assert after["continued"] is None
