"""What is said where the command that starts vLLM can't be read for certain: why, and what to write instead."""

import re
from collections.abc import Sequence

from wizard.parse.words import Word

WRITE_IT_OUT = "write the command itself in the script: exec vllm serve MODEL --host 127.0.0.1 …"
FROM_A_SCRIPT = "start vLLM from a bash script, in which stands: exec vllm serve MODEL --host 127.0.0.1 …"
CHECK_SYNTAX = "put right what this says: bash -n SCRIPT"
IN_UNIT = (
    "write one line in it: ExecStart=/path/to/vllm serve MODEL --host 127.0.0.1 …; then sudo systemctl daemon-reload"
)
CONTAINER = re.compile(rb"\b(?:docker|podman|nerdctl|apptainer|singularity)\b|vllm/vllm-openai")
# Programs that run a text as a command.
RUNNERS = frozenset(b"bash sh dash zsh ksh eval su ssh tmux screen trap xargs parallel srun at batch".split())
_OTHER_USER = frozenset({"su", "sudo", "runuser", "doas"})
_TERMINALS = frozenset({"tmux", "screen"})
_HOST_NETWORK = re.compile(rb"^--net(?:work)?(?:=host)?$")
_SCRIPT = re.compile(rb"[\w.-]+\.sh\b")
_ACCEPT = "then answer preflight: {accept: [bind.launch_script]}"


def indirect(words: Sequence[Word]) -> tuple[str, str]:
    """For a command that starts vLLM through another program."""
    if any(CONTAINER.search(word.text or word.source) for word in words):
        return _container(words)
    names = [word.source.decode("utf-8", "replace") for word in words]
    name = names[1] if names[0] in ("exec", "nohup") and len(names) > 1 else names[0]
    program = name.rpartition("/")[2]
    why = f"vLLM is started through `{name}`, which may change its arguments"
    if program == "ssh":
        return why, "vLLM runs on another server: run vllm-https-setup there, by its own launch script"
    if program in _OTHER_USER:
        return why, f"let the unit say who runs it (User=vllm), and {WRITE_IT_OUT}"
    if program in _TERMINALS:
        return why, f"systemd keeps it running without {program}; {WRITE_IT_OUT}"
    return why, WRITE_IT_OUT


def _container(words: Sequence[Word]) -> tuple[str, str]:
    why = "vLLM runs in a container"
    sources = [word.source for word in words]
    if any(b"apptainer" in one or b"singularity" in one for one in sources):
        return why, f"put --host 127.0.0.1 behind `vllm serve MODEL` in that line; {_ACCEPT}"
    pairs = zip(sources, [*sources[1:], b""], strict=True)
    if any(_HOST_NETWORK.match(one) and (b"=" in one or following == b"host") for one, following in pairs):
        return why, f"put --host 127.0.0.1 behind the image's name, where vLLM's own options stand; {_ACCEPT}"
    return why, f"publish its port on loopback only: -p 127.0.0.1:8000:8000; {_ACCEPT}"


def nothing(commands: Sequence[Sequence[Word]]) -> tuple[str, str]:
    """For a script in which no command starts vLLM, by the commands that it has."""
    why = "no command in it starts vLLM"
    heads = [b" ".join(word.source for word in words[:3]) for words in commands if words]
    if any(CONTAINER.search(head) for head in heads):
        publish = 'publish its port on loopback only (compose.yaml: ports: ["127.0.0.1:8000:8000"])'
        return f"{why} but in a container", f"{publish}; {_ACCEPT}"
    run = (head for head in heads if not head.startswith((b"source ", b". ")))
    scripts = [found[0] for head in run if (found := _SCRIPT.search(head))]
    if scripts:
        named = scripts[-1].decode()
        return why, f"name the script that does in the answers, {named} perhaps: vllm: {{launch_script: /path/to/it}}"
    return why, "name the script that runs `vllm serve` in the answers: vllm: {launch_script: /path/to/it}"


def in_unit(words: Sequence[Word]) -> tuple[str, str]:
    """For an ExecStart= that starts vLLM through another program."""
    if any(CONTAINER.search(word.text or word.source) for word in words):
        return _container(words)
    name = words[0].source.decode("utf-8", "replace") if words else ""
    return f"ExecStart= starts vLLM through `{name}`, which may change its arguments", IN_UNIT
