"""What the bind step finds."""

from .meaning import Meaning

MEANINGS = {
    "bind.launch_script": Meaning(
        "Whether the launch script gives vLLM `--host 127.0.0.1`. Else one word of it is changed. A script in which "
        "that can't be done with certainty is refused rather than guessed at.",
        "Put `--host 127.0.0.1` into the command that starts vLLM by hand, as the text says; then run this again.",
    ),
    "bind.listener": Meaning(
        "Where vLLM really listens. On anything but loopback other machines get around Caddy. Putting it right "
        "restarts vLLM: until the model is loaded there is no API.",
    ),
    "bind.sandbox": Meaning(
        "vLLM is to be confined (`harden.sandbox`), and is restarted here anyway: what confines it is put in place "
        "before, so that the model is loaded once. If it does not come up so, it is restarted without it, bound to "
        "127.0.0.1, and the step harden tries once more and says what is wrong.",
    ),
    "bind.clients": Meaning(
        "Other machines that are connected to vLLM's port now. They will need the new address: tell them before.",
    ),
    "bind.other_listener": Meaning(
        "Another socket of vLLM's unit (torch's store, ZMQ) that is not on loopback. `--host` does not reach it: the "
        "firewall is what closes it.",
        "Nothing, while the firewall is on. What it is: `sudo ss -ltnp`.",
    ),
}
