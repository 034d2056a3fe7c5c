"""What a unit's ExecStart starts: a script, vLLM itself, or a container."""

import posixpath
import re
import shlex
from dataclasses import dataclass, replace

from wizard.parse.in_shell import ONE_SCRIPT
from wizard.parse.launch import Launch, parse_launch
from wizard.parse.units import exec_texts, parse_exec_commands

CONTAINERS = frozenset({"docker", "podman", "nerdctl", "apptainer", "singularity", "docker-compose"})
SHELLS = frozenset({"bash", "sh", "dash", "zsh", "ksh"})
# Programs that run their arguments as the command they are.
WRAPPERS = frozenset(
    {"env", "nice", "ionice", "numactl", "taskset", "chrt", "stdbuf", "setsid", "nohup", "systemd-cat", "sudo", "exec"}
)
_BEHIND_C = re.compile(r"\s-[A-Za-z]*c(?:\s+[-+][A-Za-z]\w*)*\s+(.*)", re.DOTALL)
_VLLM = re.compile(r"\bvllm\s+serve\b|\bvllm\.entrypoints\b|vllm/entrypoints/")


@dataclass(frozen=True)
class Start:
    """`kind`: script, command (vLLM itself), container, or none. `script` is the path of what is run first.

    `program` is the container's program; `launch` are vLLM's commands where ExecStart holds them; `program_text` is
    what it gives to a shell to run.
    """

    kind: str = "none"
    script: str = ""
    program: str = ""
    launch: Launch | None = None
    program_text: str = ""


def parse_start(exec_start: str) -> Start:
    """From ExecStart as `systemctl show` prints it; the last command is the one that stays."""
    commands = parse_exec_commands(exec_start)
    if not commands:
        return Start()
    start = start_of(commands[-1])
    if not start.program_text:
        return start
    # Its words are read once more as they are printed: quotes in it are the shell's.
    whole = _BEHIND_C.search(exec_texts(exec_start)[-1])
    text = whole[1] if whole else start.program_text
    return replace(start, launch=parse_launch(text.encode()), program_text=text)


def start_of(argv: tuple[str, ...]) -> Start:
    words = _without_wrappers(argv)
    name = posixpath.basename(words[0]) if words else ""
    if name in CONTAINERS:
        return Start("container", argv[0], name)
    text = " ".join(words)
    if name in SHELLS:
        script, inline = _of_shell(words)
        if inline is None:
            return Start("script", script)
        if any(word in CONTAINERS for word in re.findall(r"[\w-]+", inline)) and "run" in inline.split():
            return Start(
                "container", argv[0], next(word for word in re.findall(r"[\w-]+", inline) if word in CONTAINERS)
            )
        if only := ONE_SCRIPT.fullmatch(inline):
            return Start("script", only[1])
        return Start("command", argv[0], launch=parse_launch(inline.encode()), program_text=inline)
    if _VLLM.search(text):
        return Start("command", words[0], launch=parse_launch(_as_shell(words).encode()))
    return Start("script", words[0]) if words else Start()


def _without_wrappers(argv: tuple[str, ...]) -> tuple[str, ...]:
    words = argv
    while words and posixpath.basename(words[0]) in WRAPPERS:
        words = words[1:]
        while words and (words[0].startswith("-") or re.fullmatch(r"[A-Za-z_]\w*=.*|[0-9,]+", words[0], re.DOTALL)):
            words = words[1:]
    return words


def _of_shell(words: tuple[str, ...]) -> tuple[str, str | None]:
    """The script that a shell is given, or the text after its -c."""
    rest = list(words[1:])
    while rest and rest[0].startswith(("-", "+")):
        option = rest.pop(0)
        if option.startswith("-") and not option.startswith("--") and "c" in option[1:]:
            return "", " ".join(rest)
        if option.endswith("o") and not option.startswith("--") and rest:
            rest.pop(0)
    return (rest[0] if rest else ""), None


def _as_shell(words: tuple[str, ...]) -> str:
    """As a shell would be given them: systemd's own ${NAME} stays a variable."""
    return " ".join(word if re.fullmatch(r"\$\{?\w+\}?", word) else shlex.quote(word) for word in words)
