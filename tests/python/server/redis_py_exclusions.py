"""A plugin of pytest for redis-py's own tests: which of them this server cannot pass, and why."""

from __future__ import annotations

import re

import pytest

# Names of test functions without their test_, whole.
REASONS = {
    "no lists": r"""
        binary_lists|bl(move|mpop|pop)|brpop(|lpush|lpush_empty_string)|l(index|insert|len|move|mpop|pop|pop_count|pos)
        |lpush(|x|x_with_list)|l(range|rem|set|trim)|lists_with_(byte_keys|memoryview_keys)|rpop(|_count|lpush)|rpushx?
        |sort_(all_options|alpha|basic|by|desc|get|get_groups_two|get_multi|groups_\w+|limited|ro|store)
        |command_on_invalid_key_type|exec_error_in_response|interrupted_command|type""",
    "no hashes": r"""
        h(del|exists|get_and_hset\w*|getall|incrby|incrbyfloat|keys|len|mget|mset|randfield|scan|scan_iter|strlen|vals)
        |hset(nx|_with_\w+)|send_set_commands_over_(async_)?pipeline|config_get_multi_params""",
    "no sets": r"""
        s(add|card|diff|diffstore|inter|intercard|interstore|ismember|members|mismember|move|rem|scan|scan_iter)
        |s(pop|randmember)(_multi_value)?|sunion(store)?|scan_type|sort_issue_924""",
    "no sorted sets": r"""
        (z|bz|geo)(?!\w+(_params$|_units$|_negative|_errors|_notation))\w+|zrange_params|geo(dist|radius)_units
        |floating_point_encoding|pipeline""",
    "no streams": r"x(?!\w+(_negative|_validation))\w+|async_xread\w+",
    "no HyperLogLog": r"pfadd|pfcount|pfmerge",
    "fewer commands than 300, for want of those types": "command_list|command_getkeysandflags",
    "no users but the default one": r"""
        acl_(dryrun|deluser|genpass|getuser_setuser|list|log|setuser_\w+)|auth|client_kill_filter_by_user""",
    "the bound on memory is the store's, not CONFIG's": "config_set_multi_params",
    "no tracking of keys for caches of clients": "client_tracking",
    "no scripts": "lua_script",
    "modules": "module|module_loadex",
    "needs a second server, as a replica": "psync",
}
EXCLUDED = {reason: re.compile("".join(names.split())) for reason, names in REASONS.items()}


def why_not(name: str) -> str | None:
    """Return why a test function is left out, if it is."""
    name = name.removeprefix("test_")
    return next((reason for reason, names in EXCLUDED.items() if names.fullmatch(name)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave them out, with their reason."""
    for item in items:
        if reason := why_not(item.originalname if isinstance(item, pytest.Function) else item.name):
            item.add_marker(pytest.mark.skip(reason=f"atbr: {reason}"))
