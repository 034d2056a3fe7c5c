"""The API key stays where it was: in vLLM's env file and in vLLM's own processes."""

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tests.lab import CANARY, File, Server, ServerSpec
from tests.lab.operator import RUN_UNIT, Operator
from tests.lab.spec import START_VLLM

pytestmark = pytest.mark.lab

ENV_FILE = "/etc/vllm/vllm.env"


def disguises(secret: str) -> set[bytes]:
    """The forms in which a program may write a secret without meaning to."""
    raw = secret.encode()
    forms = {raw, quote(secret).encode(), quote(secret, safe="").encode(), quote_plus(secret).encode()}
    forms |= {json.dumps(secret)[1:-1].encode(), secret.replace("/", r"\/").encode(), raw.hex().encode()}
    forms |= {quote(secret, safe="").lower().encode(), secret.replace("+", r"\u002b").encode()}
    for start in range(3):  # base64 of a text that has the secret somewhere: its inner part, at each alignment
        coded = base64.b64encode(b"x" * start + raw)
        forms |= {coded[4 if start else 0 : len(coded) - 4], coded[4 if start else 0 : len(coded) - 4].translate(URL)}
    return forms


URL = bytes.maketrans(b"+/", b"-_")
# Of others: of a model hub, and of a proxy, in the URL that has it. vLLM gets them as it gets its key.
HUB_TOKEN, PASSWORD = "hf_canary0Q9w8E7r6T5y4U3i2O1p", "proxy-canary:8s7D6f5G"
MORE = {
    "HF_TOKEN": HUB_TOKEN,
    "HTTPS_PROXY": f"http://user:{PASSWORD}@192.0.2.1:3128",
    "HF_ENDPOINT": f"https://{HUB_TOKEN}@hub.example/api",
}
FORMS = disguises(CANARY) | disguises(HUB_TOKEN) | disguises(PASSWORD)


def found_in(data: bytes) -> bool:
    return any(form in data for form in FORMS)


def _listed(procs: Path) -> list[str]:
    try:
        return procs.read_text().split()
    except OSError:
        return []


class Processes:
    """Looks at the argument lists and environments of all of a host's processes, as often as it can."""

    def __init__(self, server: Server) -> None:
        self.looks = 0
        self.programs: set[str] = set()
        self.caught: set[str] = set()
        self.vllm_has_it = False
        self._groups = Path(f"/proc/{server.leader}/root/sys/fs/cgroup")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def _go_on(self) -> None:
        while not self._ended.is_set():
            for procs in self._places():
                self._look_at(procs)
            self.looks += 1

    def _places(self) -> Iterator[Path]:
        for top, _, names in os.walk(self._groups):
            if "cgroup.procs" in names:
                yield Path(top, "cgroup.procs")

    def _look_at(self, procs: Path) -> None:
        try:
            pids = procs.read_text().split()
        except OSError:
            return
        own = procs.parent.name == "vllm.service"
        for pid in pids:
            for kind in ("cmdline", "environ"):
                try:
                    data = Path(f"/proc/{pid}/{kind}").read_bytes()
                except OSError:
                    continue
                if kind == "cmdline":
                    self.programs.add(os.path.basename(data.split(b"\0")[0].decode(errors="replace")))
                if own and kind == "environ":
                    self.vllm_has_it |= found_in(data)
                # One that systemd has moved to vLLM's group since the list was read is vLLM's.
                elif found_in(data) and pid in _listed(procs):
                    self.caught.add(f"{kind} of a process in {procs.parent.name}: {data[:80]!r}")

    def __enter__(self) -> "Processes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


# A launch script that tells its key: what vLLM itself writes to the system's journal is not ours, but it is read
# by the run that waits for it.
TELLING = START_VLLM.replace(
    "exec vllm",
    'echo "starting with --api-key $VLLM_API_KEY $HF_TOKEN by $HTTPS_PROXY $HF_ENDPOINT" >&2\nsleep 4\nexec vllm',
)


@pytest.fixture(scope="module")
def telling() -> ServerSpec:
    script = TELLING.format(spec=ServerSpec()).encode()
    return ServerSpec(files={"/opt/vllm/start-vllm.sh": File(script, 0o755, 990, 990)}, vllm_environment=MORE)


def leaks_on_disk(server: Server) -> list[str]:
    """Every file of the upper directory, and what is in memory inside the host, that has the key in any form."""
    found = []
    for top, _, names in os.walk(server.upper):
        for name in names:
            path = Path(top, name)
            if path.is_symlink() or not path.is_file():
                continue
            if found_in(path.read_bytes()):
                found.append("/" + str(path.relative_to(server.upper)))
    patterns = b"\n".join(FORMS) + b"\n"
    grep = ["grep", "-rlaF", "--exclude-dir=journal", "-f", "/dev/stdin", "/run", "/tmp", "/var/tmp", "/dev/shm"]
    return found + server.run(grep, stdin=patterns, check=False).stdout.splitlines()


def test_key_is_in_no_file_no_output_and_no_argument_list(
    attend: Callable[[ServerSpec], Operator], telling: ServerSpec
) -> None:
    operator = attend(telling)
    said: dict[str, str] = {}

    def say(words: str) -> None:
        result = operator.say(words)
        assert result.code != 2, words
        said[words] = result.stdout + result.stderr

    with Processes(operator.server) as processes:
        for words in ("plan --answers answers.yaml", "plan --answers answers.yaml --json"):
            say(words)
        say("apply --answers answers.yaml")
        operator.server.run(["ufw", "disable"])
        say("repair --json")
        for words in ("status", "status --json", "test", "test --json", "apply --answers answers.yaml --json", "runs"):
            say(words)
        for run in operator.runs():
            say(f"log {run}")
        for words in ("rollback --yes", "uninstall --expose --plan --json"):
            say(words)
        say(f"log {operator.runs()[-1]}")
        say("apply --answers answers.yaml")
        first, kept = operator.runs()[0], leaks_on_disk(operator.server)
        say("uninstall --yes --expose")
    own = operator.server.run(["journalctl", "-o", "export", "-u", RUN_UNIT, "--no-pager"]).stdout
    assert [words for words, text in said.items() if found_in(text.encode())] == []
    assert not found_in(own.encode())
    assert "•••" in said[f"log {first}"]  # what vLLM told of itself was read, and masked
    assert kept == leaks_on_disk(operator.server) == [ENV_FILE]
    print(f"{processes.looks} looks at all processes, of {len(processes.programs)} programs")
    assert processes.caught == set()
    assert processes.vllm_has_it
    assert {"apt-get", "sshd", "systemctl"} <= processes.programs


def test_key_is_in_no_log_however_a_request_brings_it(operator: Operator) -> None:
    """Hosts that Caddy serves though they are not written as in its Caddyfile, unknown ones, and broken answers."""
    server = operator.server
    assert operator.apply()["exit_code"] == 0
    own = [server.name, server.name.upper(), server.address, f"[{server.address6}]", f"[{server.address6}]:443"]
    cases = [(host, "200") for host in own] + [("unknown.example", "404")]
    config = f'header = "Authorization: Bearer {CANARY}"\nheader = "X-Api-Key: {CANARY}"\n'
    argv = ["curl", "-sk", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", "-K", "-"]

    def ask(host: str, path: str, words: Sequence[str] = ()) -> str:
        query = f"?api_key={quote(CANARY, safe='')}&key={quote(CANARY, safe='')}"
        url = f'header = "Host: {host}"\nurl = "https://{server.address}{path}{query}"\n'
        return operator.lab.outside.run([*argv, *words], stdin=(config + url).encode(), check=False).stdout

    since = time.time()
    assert [(host, ask(host, "/v1/models")) for host, _ in cases] == cases
    server.put("/etc/vllm-standin.json", b'{"repeat": 1000, "token_ms": 20}')
    body = json.dumps({"model": "phi-4-mini", "stream": True, "messages": [{"role": "user", "content": "x"}]})
    with ThreadPoolExecutor() as pool:
        words = ["-H", "Content-Type: application/json", "-d", body]
        answer = pool.submit(ask, server.name, "/v1/chat/completions", words)
        time.sleep(1.5)
        server.run(["systemctl", "kill", "-s", "KILL", "vllm.service"])
        assert answer.result() == "200"
    journal = server.run(["journalctl", "-o", "export", "--no-pager"]).stdout
    assert "aborting with incomplete response" in journal
    assert not found_in(journal.encode())
    assert leaks_on_disk(server) == [ENV_FILE]
    log = operator.file("/var/log/caddy/vllm-https.log")
    assert log is not None
    records = [json.loads(line) for line in log.decode().splitlines()]
    asked = [one["request"]["host"] for one in records if one["ts"] > since]
    assert asked == [*(host for host, _ in cases), server.name]


def test_key_in_the_last_words_of_a_failed_vllm_is_masked(operator: Operator) -> None:
    script = b'#!/bin/sh\necho "ValueError: bad key $VLLM_API_KEY" >&2\nexit 3\n'
    operator.server.put("/opt/vllm/start-vllm.sh", script, 0o755, "vllm:vllm")
    operator.server.run(["systemctl", "restart", "vllm"])
    operator.server.run(["journalctl", "--sync"])
    told = operator.server.run(["journalctl", "-u", "vllm", "-o", "cat", "--no-pager"], check=False)
    assert CANARY in told.stdout
    for words in ("apply --answers answers.yaml", "plan --answers answers.yaml --json", "status"):
        result = operator.say(words)
        assert "bad key •••" in result.stdout
        assert not found_in((result.stdout + result.stderr).encode())


def test_key_on_the_command_line_is_masked(attend: Callable[[ServerSpec], Operator]) -> None:
    """A key in the launch script is vLLM's own argument; no view of the edit shows it."""
    script = START_VLLM.replace("--port", f"--api-key {CANARY} \\\n  --port").format(spec=ServerSpec())
    operator = attend(ServerSpec(files={"/opt/vllm/start-vllm.sh": File(script.encode(), 0o755, 990, 990)}))
    for words in ("plan --answers answers.yaml", "apply --answers answers.yaml", "log"):
        result = operator.say(words)
        assert result.code == 0
        assert not found_in((result.stdout + result.stderr).encode())
    backups = [
        path for path in leaks_on_disk(operator.server) if not path.startswith("/var/lib/vllm-https-setup/runs/")
    ]
    assert sorted(backups) == [ENV_FILE, "/opt/vllm/start-vllm.sh"]
