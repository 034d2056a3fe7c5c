"""What ./test leaves to ./test long, to stay within half an hour: variations of tests that it runs itself.

Each is a module's name, and how the names of its tests end.
"""

LEFT_OUT = {
    "test_never_locked_out": (
        *("[firewall off]", "[another port]", "[limit]", "[from the operator's address]"),
        *("[defaults the other way round]", "[Docker's chains]"),
    ),
    "test_lines": (
        *("[terminal closed-repair]", "[terminal closed-rollback]", "[sudo at a terminal killed-repair]"),
        *("[sudo at a terminal killed-rollback]", "[sudo killed-apply]", "[repair]", "[rollback]"),
        "[repair, SIGTERM]",
    ),
    "test_killed": (
        *("[second rule]", "[countdown ended]", "[lists fetched]", "[Caddy told]", "[status half-installed ufw]"),
        "[acme]",
    ),
    "test_safety": ("[firewall off]", "[firewall on-lose_power]"),
    "test_hostile": (
        *("[umask 000]", "[nothing in the environment]", "[Turkish]", "[a locale that there is not]"),
        *("[of apt's lists of sources]", "[of the runs, in the middle]", "[of the log]"),
        *("[of vLLM]", "[of the units]", "[of apt's keys]", "[of apt's packages]", "[of apt's indexes]"),
        "[of dpkg, from the beginning]",
    ),
    "test_bad_surroundings": (
        *("changes_nothing[rollback]", "changes_nothing[uninstall]", "_in_the_log[package]", "_completes[index]"),
        *("[minutes]", "[preflight]", "[bind]", "[tls]", "[firewall]", "[first rule]", "[Caddy]", "[final test]"),
    ),
    "test_harden_watch": ("_told_with_its_reason", "_there_after_a_reboot"),
    "test_export": ("[acme]", "[typed]"),
    "test_plan": ("[fresh]", "[vLLM stopped]"),
    "test_harden_bans": ("[turned off]", "[uninstalled]"),
    "test_models": ("needs_a_certificate_for_it",),
    "test_harden_confine": ("test_other_modes_and_http3_go_on_confined",),
    "test_scan": ("test_tls_is_graded_and_has_no_weakness[trixie]",),
    "test_recovery": ("[acme]", "[custom]"),
    "test_install": ("[echo 'import no_such_library' >>wizard/steps/tls.py-no_such_library]", "[INT]"),
}


def is_left_out(module: str, name: str) -> bool:
    """Whether this test is one of them."""
    return any(name.endswith(end) for end in LEFT_OUT.get(module.rpartition(".")[2], ()))
