"""Whether a program, or a directory, is root's alone: what root runs, or writes into, nobody else may change."""

from __future__ import annotations

import posixpath

from .server import FileState, Server


def flaw_of_program(server: Server, path: str) -> tuple[str, str]:
    """What is wrong with a program that root is to run, and what to do; ("", "") where nothing is."""
    state = server.read(path)
    if state is None:
        return f"{path}: there is no such file", f"put it there, or take it out of the answers: ls -l {path}"
    if state.kind != "file":
        return f"{path} is a {state.kind}, not a program", "name the program itself"
    if words := _not_roots(path, state):
        return words, f"sudo chown root: {path}; sudo chmod go-w {path}"
    if not state.mode & 0o100:
        return f"{path} can't be executed (mode {state.mode:04o})", f"sudo chmod 0755 {path}"
    directory = path
    while (directory := posixpath.dirname(directory)) != "/":
        if flaw := flaw_of_directory(server, directory):
            return flaw, f"put {path} where only root can: /usr/local/bin"
    return "", ""


def flaw_of_directory(server: Server, path: str) -> str:
    """What is wrong with a directory that is to be root's alone; "" where nothing is."""
    state = server.read(path)
    if state is None:
        return f"{path}: there is no such directory"
    if state.kind != "directory":
        return f"{path} is a {state.kind}, not a directory"
    return _not_roots(path, state)


def _not_roots(path: str, state: FileState) -> str:
    if state.owner != "root":
        return f"{path} belongs to {state.owner}"
    return f"{path} is writable by others (mode {state.mode:04o})" if state.mode & 0o022 else ""
