"""What `./test fast` leaves to ./test, to stay within a minute: what takes long, and says little before a commit that
the rest does not say, too. Each is a module's name, and how the names of its tests begin; none: all of them.
"""

LATER: dict[str, tuple[str, ...]] = {
    "test_access_log": ("test_parser_never_raises", "test_damaged_log"),
    "test_answers": ("test_schema_refuses_what_check_refuses",),
    "test_answers_properties": (),
    "test_changes": ("test_whatever_stands_in_the_file",),
    "test_checks_page": ("test_every_finding_has_its_words", "test_all_that_described_servers_show"),
    "test_clients": ("test_names_from_the_machine_drive_no_terminal",),
    "test_exchange": ("test_answer_that_drips",),
    "test_harden_bans": ("test_kill_anywhere_is_completed",),
    "test_hostile_files": ("test_lock_held_by_another_user",),
    "test_import_hygiene": ("test_module_imports_alone",),
    "test_keyboard": (),
    "test_killed": (),
    "test_killed_rollback": (),
    "test_lives": (),
    "test_mashed": (),
    "test_parse_launch": ("test_edited_script_stays_on_loopback_whatever",),
    "test_parse_environment": ("test_any_text",),
    "test_parsers_properties": (),
    "test_plain_rough": (),
    "test_recording": ("test_recording_of_a_recording",),
    "test_resolve": ("test_lost_packet",),
    "test_restored": ("test_killed_at_any_action",),
    "test_rough": (),
    "test_runs": (),
    "test_script": ("test_script_of_each_described_server", "test_script_has_each_action"),
    "test_start": (
        *("test_without_a_terminal", "test_options_that_belong_elsewhere", "test_demo_needs_no_root"),
        *("test_closed_stream", "test_dumb_terminal", "test_terminal_of_another_encoding", "test_who_is_not_root"),
    ),
    "test_terminal": (),
    "test_way": (
        *("test_wrong_domain", "test_own_files", "test_every_kind_of_blocked_check", "test_back_and_forth"),
        *("test_lets_encrypt", "test_letters", "test_blocked_check", "test_file_can_be_picked"),
        "test_answers_of_the_wizard",
    ),
}
# Laws that are tried on every described server: a few of these are enough before a commit.
EVERY_SERVER = ("test_laws", "test_report", "test_firewall")
SOON = (
    *("exposed", "finished", "half-done", "killed-in-firewall", "many-warnings", "no-ufw", "ssh-socket"),
    *("ufw-active-with-rules", "vllm-hardened", "vllm-stopped", "caddyfile-of-others-kept", "root-missing"),
)
KILLED_ANYWHERE = "test_apply_again_after_a_kill_anywhere"
# Of the pictures of the screens, too.
PICTURES_SOON = ("review", "tls-internal", "test", "summary", "firewall")


def is_for_later(module: str, name: str, servers: tuple[str, ...]) -> bool:
    """Whether this test is one of them. `servers` are the names of all described ones."""
    known = module.rpartition(".")[2]
    if ".lab." in module:
        return False
    parameter = name.partition("[")[2].rstrip("]")
    if name.startswith(KILLED_ANYWHERE):
        return parameter != "half-done"
    if known in EVERY_SERVER and parameter in servers:
        return parameter not in SOON
    if known == "test_pictures" and parameter:
        return parameter not in PICTURES_SOON
    return known in LATER and name.startswith(LATER[known] or "test_")
