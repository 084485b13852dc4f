"""Keys that can be told apart and not guessed, and roles that keep to what they are for."""

from twintrack.auth import Role, key_hash, new_key
from twintrack.permissions import GIVES, MEANING, PERMISSIONS, Permission, gives, hidden_from, roles_with


def test_keys_say_what_they_are_and_never_repeat() -> None:
    keys = [new_key(role) for role in Role for _ in range(20)]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(f"tt_{role.value}_") for role in Role for key in [new_key(role)])
    assert min(len(key) for key in keys) > 50


def test_hash_of_a_key_is_not_the_key_and_takes_any_text() -> None:
    assert key_hash("tt_write_x") == key_hash("tt_write_x") != key_hash("tt_write_y")
    assert len(key_hash("\ud800")) == 64


def test_roles_that_send_do_not_read_and_the_other_way_round() -> None:
    assert not roles_with(Permission.SEND) & (roles_with(Permission.SQL) | roles_with(Permission.LOOK))
    assert roles_with(Permission.SIGN_IN) < roles_with(Permission.LOOK)
    assert roles_with(Permission.ACCESS) < roles_with(Permission.SIGN_IN)


def test_every_role_and_permission_has_its_place_in_the_table() -> None:
    assert set(PERMISSIONS) == set(Role) and set(MEANING) == set(Permission)
    assert frozenset().union(*PERMISSIONS.values()) == set(Permission)


def test_nobody_gives_a_role_that_sees_more_than_theirs() -> None:
    """What a sender may is no sight; of all else a giver must have what they give."""
    for giver, roles in GIVES.items():
        for role in roles:
            sees = PERMISSIONS[role] - {Permission.SEND, Permission.VOUCH}
            assert sees <= PERMISSIONS[giver], (giver, role)
    assert {role for role in Role if gives(role)} == {role for role in Role if Permission.ACCESS in PERMISSIONS[role]}


def test_text_and_claimed_ids_are_shown_to_those_who_answer_for_privacy_alone() -> None:
    assert {role for role in Role if not hidden_from(role)} == {Role.PRIVACY, Role.OWNER}
