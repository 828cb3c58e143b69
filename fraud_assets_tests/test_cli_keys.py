"""`fraud keys`, and what `fraud serve` does without any."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fraud_assets.adapters.key_file import change_keys, read_keys
from fraud_assets.cli import app
from fraud_assets.core.access.api_keys import hash_key, make_key


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FRAUD_API_KEYS", raising=False)
    return tmp_path / "home"


def fraud(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    return done.output


def test_a_key_is_shown_once_and_only_its_owner_may_read_the_file(home: Path) -> None:
    shown = fraud("keys", "add", "till", "--role", "score", "--role", "feedback", "--rate", "600").splitlines()[0]
    file = home / "keys" / "api-keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    (key,) = read_keys(file)
    assert (key.name, key.roles, key.requests_per_minute) == ("till", ("score", "feedback"), 600)
    assert key.sha256 == hash_key(shown)
    assert shown not in file.read_text()
    listed = json.loads(fraud("keys", "list", "--json"))
    assert [(one["name"], one["roles"], one["requests_per_minute"]) for one in listed] == [
        ("till", ["score", "feedback"], 600)
    ]
    said = fraud("keys", "list")
    assert "till" in said
    assert key.sha256[:12] not in said


def test_a_key_is_taken_back(home: Path) -> None:
    fraud("keys", "add", "till", "--role", "decide")
    assert "there is a key 'till' already" in fraud("keys", "add", "till", "--role", "score", code=1)
    assert "there is no role root" in fraud("keys", "add", "other", "--role", "root", code=1)
    assert "there is no key 'other'; there are till" in fraud("keys", "remove", "other", code=1)
    assert json.loads(fraud("keys", "remove", "till", "--json")) == {"removed": "till", "left": []}
    assert "answers its own machine alone" in fraud("keys", "list")


def test_the_file_is_where_the_setting_says(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_API_KEYS", str(tmp_path / "elsewhere" / "keys.json"))
    fraud("keys", "add", "till", "--role", "score")
    assert [one.name for one in read_keys(tmp_path / "elsewhere" / "keys.json")] == ["till"]
    assert not (home / "keys" / "api-keys.json").exists()


def test_keys_that_are_added_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    file = tmp_path / "keys.json"

    def add(number: int) -> None:
        change_keys(file, lambda there: make_key(there, f"k{number}", ["score"], datetime.now(UTC))[1])

    with ThreadPoolExecutor(8) as several:
        list(several.map(add, range(24)))
    assert {one.name for one in read_keys(file)} == {f"k{number}" for number in range(24)}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "scores.example.org"])
def test_beyond_this_machine_nothing_is_served_without_a_key(home: Path, host: str) -> None:
    said = " ".join(fraud("serve", "--host", host, code=1).split())
    assert f"{host} can be reached from other machines, and there is no API key" in said
    assert "make a key with `fraud keys add NAME --role score`, or leave --host out" in said
    # Before anything else is looked for, such as a database or a model.
    assert not (home / "postgres").exists()


def test_with_a_key_it_is_not_the_address_that_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_model(_: object) -> None:
        raise ValueError("there is no model")

    monkeypatch.setattr("fraud_assets.workflows.servers.dev_servers.live_package", no_model)
    fraud("keys", "add", "till", "--role", "score")
    assert "there is no model" in fraud("serve", "--host", "0.0.0.0", code=1)
    (home / "keys" / "api-keys.json").write_text("secret-4711")
    said = fraud("serve", code=1)
    assert "the file of keys cannot be read" in said
    assert "4711" not in said
