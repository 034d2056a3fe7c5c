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
    "test_repair": (
        *(
            "[the keyring is cut off]",
            "[apt can't read the keyring]",
            "[apt's list is empty]",
            "[apt's list trusts any key]",
        ),
        *("[Caddy can't read our imported site]", "[our imported site is gone]", "[the watch's unit was edited]"),
        *("[Caddy's certificate is cut off]", "[the original key is gone]", "[the Caddyfile is empty]"),
        *("[the Caddyfile is wrong]", "[the Caddyfile is vLLM's]", "[Caddy can't read the Caddyfile]"),
        *(
            "[the env file is gone]",
            "[vLLM's unit is gone]",
            "[the launch script is gone]",
            "[vLLM's unit has an error]",
        ),
        *("[the saved answers are of another version]", "[the saved answers have a key that is no longer known]"),
        *("[Caddy is one that no package brought]", "[another package's installation was cut off]"),
        *("[another web server has port 80]", "[Caddy is too old a version]", "[the server has lost an address]"),
        *("[nobody can read the root certificate]", "[a rule was taken out of ufw's file for IPv4]"),
        *("[the rule for 443 was turned round]", "[ufw was removed]", "[Caddy was removed]"),
    ),
    "test_surroundings": ("_itself_holds_the_port", "_either_way_out_of_it_works", "_without_being_asked"),
    "test_hostile": (
        *("[of the runs, from the beginning]", "[of Caddy's files]"),
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
    "test_suites": ("[trixie-custom]",),
    "test_harden_bans": ("[turned off]", "[uninstalled]"),
    "test_key": ("_a_run_that_is_killed_is_completed",),
    "test_models": ("needs_a_certificate_for_it", "_is_replaced_for_both_or_for_none"),
    "test_harden_confine": (
        *("test_other_modes_and_http3_go_on_confined", "_and_undone_is_as_before"),
        *("_by_one_restart_wherever_the_run_is_killed", "_by_one_restart_too"),
    ),
    "test_recovery": ("[acme]", "[custom]"),
    "test_install": ("[echo 'import no_such_library' >>wizard/steps/tls.py-no_such_library]", "[INT]"),
}


def is_left_out(module: str, name: str) -> bool:
    """Whether this test is one of them."""
    return any(name.endswith(end) for end in LEFT_OUT.get(module.rpartition(".")[2], ()))
