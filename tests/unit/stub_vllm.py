"""A stand-in for vLLM, and for what runs it, that writes down the arguments that it gets."""

import os
import re
import subprocess
import time
from pathlib import Path

# vLLM, and what runs it (python3, uv, numactl and the like): each call's arguments in a file of its own.
PROGRAM = """#!/bin/sh
printf '%s\\0' "$@" >"{record}/$$.new" && mv "{record}/$$.new" "{record}/$$"
"""
RECORDING = ("vllm", "python", "python3", "uv", "uvx", "numactl", "conda")
SILENT = ("nvidia-smi", "fuser", "pkill", "pgrep", "ray", "sleep")


STARTS = re.compile(r"^serve$|entrypoints")


class Machine:
    """A folder in the place of /opt/vllm, whose programs write down the arguments that they get."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / "record"
        self.record.mkdir()
        self.programs = root / "venv" / "bin"
        self.programs.mkdir(parents=True)
        for name in ("venv/bin/activate", ".env", "common.sh", "local.conf"):
            (root / name).write_text("")
        for name in RECORDING:
            self._install(name, PROGRAM.format(record=self.record))
        for name in SILENT:
            self._install(name, "#!/bin/sh\n")
        self._install("curl", "#!/bin/sh\nexit 7\n")

    def _install(self, name: str, text: str) -> None:
        program = self.programs / name
        program.write_text(text)
        program.chmod(0o755)

    def run(self, content: bytes, *arguments: str, **environment: str) -> list[list[str]]:
        """The arguments of each start of vLLM."""
        script = self.root / "start.sh"
        script.write_bytes(content.replace(b"/opt/vllm", str(self.root).encode()))
        shell = "/bin/sh" if content.startswith(b"#!/bin/sh") else "bash"
        variables = {"MODEL": "org/model", "PORT": "8000", "VLLM_API_KEY": "k", **environment}
        return self.start([shell, str(script), *arguments], variables)

    def start(self, argv: list[str], environment: dict[str, str]) -> list[list[str]]:
        """The same for a command line."""
        for old in self.record.iterdir():
            old.unlink()
        subprocess.run(
            argv,
            env={"PATH": f"{self.programs}:{os.environ['PATH']}", "HOME": str(self.root), **environment},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        until = time.monotonic() + 10
        while not (found := self._calls()) and time.monotonic() < until:
            # It was left in the background.
            time.sleep(0.01)
        return found

    def _calls(self) -> list[list[str]]:
        texts = [
            path.read_bytes().decode("utf-8", "surrogateescape")
            for path in self.record.iterdir()
            if path.name.isdigit()
        ]
        calls = [text.removesuffix("\0").split("\0") for text in texts]
        return sorted(call for call in calls if "--help" not in call and any(map(STARTS.search, call)))


def split_host(call: list[str]) -> tuple[str | None, list[str]]:
    """The host that argparse would take, and the other arguments."""
    host, others, words = None, [], iter(call)
    for word in words:
        if word == "--host":
            host = next(words, None)
        elif word.startswith("--host="):
            host = word.removeprefix("--host=")
        else:
            others.append(word)
    return host, others
