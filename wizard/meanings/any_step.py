"""What every step can find: the end of its key, behind the step's name."""

from .meaning import Meaning

MEANINGS = {
    "failed": Meaning(
        "The step was under way and an action of it failed, or did not bring what it should; the text has its last "
        "words. What was done before is in the log, and later steps were not begun.",
        "Read what was said (`sudo vllm-https-setup log`), put that right, and run the same command again: it goes on "
        "from there. `sudo vllm-https-setup rollback` takes the run back instead.",
    ),
    "unreadable": Meaning(
        "Something that the step has to know could not be read: a command is missing, or said what nobody understands. "
        "Nothing is guessed, so nothing was changed.",
        "The text names the command: run it yourself, and see what it says.",
    ),
}
