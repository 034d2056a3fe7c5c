"""A real server without a server: boots throw-away Debian hosts that look like the guide's."""

from tests.lab.acme import Acme
from tests.lab.base import ensure_base
from tests.lab.clean import remains
from tests.lab.lab import Lab
from tests.lab.machine import CommandFailed, LabUnavailable, Result
from tests.lab.outside import Sample, Sampler
from tests.lab.program import ensure_program_layer
from tests.lab.server import Server
from tests.lab.snapshot import Snapshot
from tests.lab.spec import CANARY, File, ServerSpec

__all__ = [
    "CANARY",
    "Acme",
    "CommandFailed",
    "File",
    "Lab",
    "LabUnavailable",
    "Result",
    "Sample",
    "Sampler",
    "Server",
    "ServerSpec",
    "Snapshot",
    "ensure_base",
    "ensure_program_layer",
    "remains",
]
