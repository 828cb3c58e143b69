"""Keys: made at random, kept as hashes, and refused in words that hold no part of one."""

import json
from datetime import UTC, datetime

import pytest

from fraud_assets.core.access.api_keys import (
    KeysError,
    hash_key,
    keys_from_json,
    keys_to_json,
    make_key,
    without_key,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_key_is_random_and_only_its_hash_is_kept():
    first, keys = make_key([], "till", ["score"], NOW)
    second, keys = make_key(keys, "till-2", ["feedback", "admin", "admin"], NOW, 60)
    assert first != second
    assert len(first) > 40
    assert first.startswith("fraud_")
    written = keys_to_json(keys)
    assert first not in written
    assert first.removeprefix("fraud_") not in written
    assert keys_from_json(written) == keys
    assert [(one.name, one.roles, one.sha256, one.requests_per_minute) for one in keys] == [
        ("till", ("score",), hash_key(first), None),
        ("till-2", ("feedback", "admin"), hash_key(second), 60),
    ]


@pytest.mark.parametrize(
    ("roles", "only"), [(["score"], False), (["decide"], True), (["score", "decide"], False), (["admin"], True)]
)
def test_probabilities_are_for_role_score(roles, only):
    (key,) = make_key([], "till", roles, NOW)[1]
    assert key.decisions_only == only
    assert key.may(("score", "decide")) == (roles != ["admin"])


@pytest.mark.parametrize(
    ("name", "roles", "rate", "said"),
    [
        ("till", ["score"], None, "there is a key 'till' already; `fraud keys remove till` takes it back"),
        ("till 2", ["score"], None, "name cannot be 'till 2'"),
        ("", ["score"], None, "name cannot be ''"),
        ("x" * 65, ["score"], None, "name cannot be"),
        ("other", ["root"], None, "there is no role root; the roles are score, decide, feedback, admin"),
        ("other", [], None, "a key needs a role"),
        ("other", ["score"], 0, "requests_per_minute cannot be 0"),
    ],
)
def test_a_key_that_cannot_be_is_refused(name, roles, rate, said):
    _, keys = make_key([], "till", ["score"], NOW)
    with pytest.raises(KeysError) as refusal:
        make_key(keys, name, roles, NOW, rate)
    assert said in str(refusal.value)


def test_a_key_is_taken_back_by_its_name():
    _, keys = make_key([], "till", ["score"], NOW)
    assert without_key(keys, "till") == []
    with pytest.raises(KeysError, match="there is no key 'other'; there are till"):
        without_key(keys, "other")


@pytest.mark.parametrize("change", ["text", "list", "role", "hash", "field", "twice", "same key", "none"])
def test_a_file_that_is_none_of_keys_is_refused_without_repeating_it(change):
    _, keys = make_key([], "till", ["score"], NOW)
    said = json.loads(keys_to_json(keys))
    (key,) = said["keys"]
    if change == "role":
        key["roles"] = ["root-4711"]
    elif change == "hash":
        key["sha256"] = "secret-4711"
    elif change == "field":
        key["key"] = "secret-4711"
    elif change == "twice":
        said["keys"].append(key | {"sha256": "0" * 64})
    elif change == "same key":
        said["keys"].append(key | {"name": "other"})
    text = {"text": "secret-4711", "list": "[]", "none": "{}"}.get(change, json.dumps(said))
    with pytest.raises(KeysError) as refusal:
        keys_from_json(text)
    assert "4711" not in str(refusal.value)
