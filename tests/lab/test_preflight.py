"""Servers as they are: what preflight finds on booted ones, and what must not stop the work."""

from collections.abc import Callable

import pytest

from tests.lab import File, ServerSpec
from tests.lab.operator import Operator, in_words, troubles
from tests.servers.state import PROGRAM

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]
GONE = b"deb http://archive.lab/nothing-here noble main\n"
WHERE = "from wizard.system import find_operator; print(find_operator())"


def test_repository_of_others_that_is_gone_stops_nothing(attend: Attend) -> None:
    """apt-get update as a whole fails there; ufw has to be installed all the same."""
    spec = ServerSpec(ufw_installed=False, files={"/etc/apt/sources.list.d/gone.list": File(GONE)})
    operator = attend(spec)
    assert operator.server.run(["apt-get", "update", "-q"], check=False).code == 100
    document = operator.apply()
    assert (troubles(document), document["exit_code"]) == ([], 0)
    (firewall,) = [step for step in document["steps"] if step["id"] == "firewall"]
    assert any("Dir::Etc::sourcelist=/etc/apt/sources.list" in words for words in in_words(firewall["changes"]))


def test_operator_is_found_by_the_connection_where_no_environment_says_it(operator: Operator) -> None:
    """sudo in place of the login's own shell: no process but sshd itself is above."""
    login = f"exec env -i /usr/bin/sudo {PROGRAM} -I -c '{WHERE}'"
    said = operator.server.ssh(login).stdout
    assert said.strip() == operator.server.ssh(f"sudo {PROGRAM} -I -c '{WHERE}'").stdout.strip()
    assert "port=22" in said and "10.91." in said
