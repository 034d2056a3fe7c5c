"""The firewall taken back as carefully as it was set up: it undoes that again where nobody would get in any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from . import paths
from .engine import Look
from .model import Action, RuleIs, Run, SetupError
from .models import models
from .parse.ufw import UfwRule
from .rules import LETS_IN, Rules, is_rule, read_opening, said
from .safety import arm, forget, prove_and_disarm
from .server import Firewall
from .ssh import find_ssh_ports
from .vllm import find_vllm

DISABLE = ("ufw", "--force", "disable")
ALLOW_ALL = ("ufw", "default", "allow", "incoming")


@dataclass(frozen=True)
class Guarded:
    """The actions, with what makes them safe; `exposes`: other machines would reach vLLM by them."""

    actions: tuple[Action, ...]
    left: tuple[str, ...] = ()
    exposes: bool = False


def guard(look: Look, actions: Sequence[Action], *, keep_closed: bool) -> Guarded:
    """What takes the firewall's part back. What is so already is not done; `keep_closed`: ufw goes on keeping other
    machines from what vLLM listens on."""
    firewall = look.server.firewall()
    is_on = _is_on(look, firewall)
    ours = [one for one in actions if _is_of_ufw(one) and _is_standing(firewall, one, is_on=is_on)]
    others = [one for one in actions if not _is_of_ufw(one)]
    left: list[str] = []
    opening = [one for one in ours if one.argv in (DISABLE, ALLOW_ALL)]
    exposes = bool(opening) and is_on and _is_vllm_behind(look)
    if exposes and keep_closed:
        ours = [one for one in ours if one not in opening]
        left.append("ufw stays on: it alone keeps other machines from what vLLM listens on")
        exposes = False
    # What opens comes first, whenever it was done: no rule may go while ufw still closes what it has let in.
    ours.sort(key=lambda one: (one.argv != DISABLE, one.argv != ALLOW_ALL))
    if is_on and not any(one.argv == DISABLE for one in ours):
        ours, kept = _without_the_way_in(look, firewall, ours)
        left += kept
    if any(isinstance(one, Run) for one in others) and (why := _needs_ufw(firewall, ours, is_on=is_on)):
        others = [one for one in others if not isinstance(one, Run)]
        left += [why] if why not in left else []
    if not ours or not is_on:
        return Guarded((*ours, *forget(look.server), *others), tuple(left))
    ports = find_ssh_ports(look).ports
    armed = arm(look, was_active=firewall.enabled and firewall.loaded is not False)
    return Guarded((*armed, *ours, *prove_and_disarm(look, ports), *others), tuple(left), exposes)


def _is_of_ufw(action: Action) -> TypeGuard[Run]:
    return isinstance(action, Run) and action.argv[0] == "ufw"


def _is_on(look: Look, firewall: Firewall) -> bool:
    """Also where ufw was killed while it was switched off: its file says so first, its rules go after that, and last
    the policy, which until then lets nobody in. Our mark tells that from a policy that somebody else has set."""
    if firewall.enabled or firewall.loaded is True:
        return True
    kernels = (firewall.kernel4, firewall.kernel6)
    refuses = any(one.policies.get("INPUT", "ACCEPT") != "ACCEPT" for one in kernels if one is not None)
    return refuses and look.server.read(paths.UNCONFIRMED) is not None


def _needs_ufw(firewall: Firewall, ours: Sequence[Run], *, is_on: bool) -> str:
    """Why the package that a run has brought has to stay; "" where nothing needs it."""
    if is_on and not any(one.argv == DISABLE for one in ours):
        return "the package ufw stays: the firewall is on"
    deleted = [rule for one in ours for rule in _deleted(one)]
    theirs = [known for known in firewall.rules if not any(is_rule(known, rule) for rule in deleted)]
    named = "; ".join(dict.fromkeys(said(known) for known in theirs))
    return f"the package ufw stays, switched off: it has rules of your own ({named})" if theirs else ""


def _is_standing(firewall: Firewall, undo: Run, *, is_on: bool) -> bool:
    """Whether there is anything that this command would take back."""
    if undo.argv == DISABLE:
        return is_on
    if undo.argv == ALLOW_ALL:
        # Anything else than ours was set since, by whoever wanted it so.
        return firewall.defaults.input == "deny"
    return any(is_rule(known, rule) for rule in _deleted(undo) for known in firewall.rules)


def _is_vllm_behind(look: Look) -> bool:
    """Whether vLLM listens on anything that a firewall is needed for."""
    try:
        return any(find_vllm(model.look).exposed for model in models(look))
    except SetupError:
        return False


def _without_the_way_in(look: Look, firewall: Firewall, ours: list[Run]) -> tuple[list[Run], list[str]]:
    """Where ufw stays on: a rule of ours stays that is all that lets the operator in."""
    open_by_default = firewall.defaults.input == "allow" or any(one.argv == ALLOW_ALL for one in ours)
    if open_by_default:
        return ours, []
    deleted = [rule for one in ours for rule in _deleted(one)]
    rest = tuple(known for known in firewall.rules if not any(is_rule(known, rule) for rule in deleted))
    kept, words = list(ours), []
    for port in find_ssh_ports(look).ports:
        if _is_let_in(look, firewall, rest, port):
            continue
        stays = [one for one in kept if any(rule.port == str(port) for rule in _deleted(one))]
        kept = [one for one in kept if one not in stays]
        if stays:
            words.append(
                f"the rule that allows SSH ({port}/tcp) stays: without it nobody could log in. When a rule of your "
                f"own lets you in: sudo {' '.join(stays[0].argv)}"
            )
    return kept, words


def _is_let_in(look: Look, firewall: Firewall, rules: tuple[UfwRule, ...], port: int) -> bool:
    without = Rules(look, replace(firewall, rules=rules))
    source = look.operator.address if look.operator and look.operator.port == port else None
    return all(one.action in LETS_IN for one in without.verdicts(port, "tcp", source))


def _deleted(undo: Run) -> tuple[RuleIs, ...]:
    """The rule that a command deletes."""
    rule = read_opening(("ufw", *undo.argv[2:])) if undo.argv[:2] == ("ufw", "delete") else None
    return () if rule is None else (rule,)
