"""The breaker over several processes: one opens it, all follow, a person or another model closes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from bentos.fraud_scorer.guards.breaking import Breaker, read_config
from fraud_assets.adapters.asked.session import Session
from fraud_assets.adapters.guards.breaker_events import BreakerError, last_events, record_closing
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.cli import app
from fraud_assets.core.guards.breaker import BreakerConfig
from fraud_assets.core.guards.policy import Decided
from fraud_assets.core.models.scoring import ScoringError
from fraud_assets.workflows.guards.lists import lists_session

HELD = Decided(("review",) * 6 + ("decline", "approve"), ("model",) * 6 + ("rule often@1", "model"))
BLOCKED = Decided(("decline",) * 8, ("list stolen",) * 8)


def model(version: int) -> Any:
    return SimpleNamespace(manifest=SimpleNamespace(model_version=version))


class Process:
    """A process of a service, which looks when it is told to."""

    def __init__(self, url: str | None, mode: str = "previous", previous: int | None = 6) -> None:
        self.live = model(7)
        self.previous = previous
        config = BreakerConfig(share=0.8, seconds=60, least=16, mode=mode)  # type: ignore[arg-type]
        self.breaker = Breaker(url, lambda: self.live, self._load, config)

    def _load(self) -> Any:
        if self.previous is None:
            raise ScoringError("no champion before this one is named for serving")
        return model(self.previous)

    def answer(self, said: Decided = HELD) -> tuple[int, Decided, str | None]:
        answering = self.breaker.answering(self.live)
        decided, acting = self.breaker.decided(answering, said)
        return answering.manifest.model_version, decided, acting


@pytest.fixture
def processes(database: Database) -> Iterator[list[Process]]:
    both = [Process(database.url), Process(database.url)]
    yield both
    for one in both:
        one.breaker.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with lists_session(database.url) as opened:
        yield opened


def test_one_opens_it_all_follow_and_a_person_closes_it(
    processes: list[Process], session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = processes
    for _ in range(4):
        first.answer(BLOCKED)
    assert first.breaker.opened is None, "what lists block was wanted"
    first.breaker.decided(first.live, Decided(("approve",) * 8, ("model",) * 8))
    for _ in range(20):
        first.answer()
    assert first.breaker.opened is not None
    assert "THE BREAKER IS OPEN (previous): " in caplog.text
    for one in processes:
        one.breaker.look()
    assert [one.answer()[0] for one in processes] == [6, 6]
    assert [one.breaker.told()["state"] for one in processes] == ["open", "open"]
    # Looked at again, it is one opening still.
    second.breaker.look()
    (event,) = last_events(session, 10)
    assert (event.event, event.model_version, event.mode) == ("opened", 7, "previous")
    assert "were held or declined with version 7; the limit is 80.0 %" in event.said
    record_closing(session, "the feed was mended", "ada")
    for one in processes:
        one.breaker.look()
    assert [one.answer()[::2] for one in processes] == [(7, None), (7, None)]
    with pytest.raises(BreakerError, match="is not open"):
        record_closing(session, "again", "ada")
    # It counts anew: eight since it was closed, and sixteen are needed.
    assert [one.breaker.opened for one in processes] == [None, None]
    first.answer()
    assert first.breaker.opened is not None


def test_it_is_open_for_one_version(processes: list[Process]) -> None:
    first, second = processes
    for _ in range(3):
        first.answer()
    first.breaker.look()
    first.live = second.live = model(8)
    second.breaker.look()
    assert [one.answer()[::2] for one in processes] == [(8, None), (8, None)]
    # A service that starts on the version for which it is open finds that out.
    second.live = model(7)
    second.breaker.look()
    assert second.answer()[0] == 6


def test_without_a_champion_before_people_see_what_rules_decline(database: Database) -> None:
    for process in (Process(database.url, previous=None), Process(None, mode="review")):
        for _ in range(3):
            process.answer()
        process.breaker.look()
        version, decided, acting = process.answer()
        assert (version, acting) == (7, "review")
        assert decided.decisions == ("review",) * 7 + ("approve",)
        assert decided.by == ("model",) * 6 + ("breaker", "model")
        assert process.answer(BLOCKED)[1] == BLOCKED
        process.breaker.close()
    assert process.breaker.told()["no_previous"] is None


def test_while_the_database_is_away_it_opens_for_its_own_process() -> None:
    process = Process("postgresql:///none?host=/nowhere")
    for _ in range(3):
        process.answer()
    process.breaker.look()
    assert process.answer()[0] == 6


def test_what_is_configured_is_read_or_named() -> None:
    assert read_config({}) == BreakerConfig()
    given = {"FRAUD_BREAKER_SHARE": "0.2", "FRAUD_BREAKER_SECONDS": "60", "FRAUD_BREAKER_MODE": "review"}
    assert read_config(given) == BreakerConfig(0.2, 60, 200, "review")
    for wrong in ({"FRAUD_BREAKER_SHARE": "much"}, {"FRAUD_BREAKER_MODE": "off"}, {"FRAUD_BREAKER_SCORES": "1.5"}):
        with pytest.raises(ValueError, match="FRAUD_BREAKER_SHARE, "):
            read_config(wrong)


@pytest.mark.usefixtures("empty_home")
def test_the_command_shows_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fraud(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == code, done.output
        return done.output

    assert "has never opened" in fraud("breaker", "show")
    assert "the breaker is not open" in fraud("breaker", "close", "--reason", "why not", code=1)
    process = Process(fraud("db").strip())
    for _ in range(3):
        process.answer()
    process.breaker.look()
    assert "opened" in fraud("breaker", "show")
    assert "closed for version 7" in fraud("breaker", "close", "--reason", "the feed was mended")
    assert [one["event"] for one in json.loads(fraud("breaker", "show", "--json"))] == ["closed", "opened"]
    process.breaker.look()
    assert process.answer()[0] == 7
    process.breaker.close()
