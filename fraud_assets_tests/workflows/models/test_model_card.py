"""The card of a version: from what is stored, kept beside it, and the same each time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from fraud_assets.adapters.mlflow import RegistryError
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.explanations.behaviour import Behaviour
from fraud_assets.pages.cards import Card, as_html, as_markdown
from fraud_assets.workflows.models import model_card
from fraud_assets.workflows.models.model_card import BEHAVIOUR, PAGE, TEXT, gather_card, publish_card, write_card
from fraud_assets_tests.workflows.models.small_world import MONTHS, SmallWorld, build

LIVE = 2


@pytest.fixture(scope="module")
def world(server: Callable[[str], Database], tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """With an evaluation of version 2, beside champion 1, in two months."""
    small = build(server, "carded", tmp_path_factory.mktemp("carded"))
    schema = small.store.table("evaluation").schema
    for month in MONTHS[2:]:
        first = date.fromisoformat(f"{month}-01")
        base = {
            "month": first, "as_of": small.store.contract.month_end(month), "n": 900, "n_fraud": 45, "prevalence": 0.05,
            "window_from": small.store.contract.month_start(month), "window_to": small.store.contract.month_end(month),
        }  # fmt: skip
        rows = [
            base | {"role": "champion", "model_version": 1, "average_precision": 0.5},
            base | {
                "role": "challenger", "model_version": LIVE, "average_precision": 0.6, "average_precision_low": 0.55,
                "average_precision_high": 0.65,
            },
            base | {"role": "reference", "model_version": LIVE, "average_precision": 0.4},
        ]  # fmt: skip
        small.store.replace_months("evaluation", pa.Table.from_pylist(rows, schema=schema), [month])
    return small


def card_of(world: SmallWorld, version: int = LIVE) -> Card:
    return gather_card(world.store, world.ledger, world.registry, version)  # type: ignore[arg-type]


def test_what_is_published_is_the_card_as_page_and_as_text(world: SmallWorld) -> None:
    address = publish_card(world.store, world.ledger, world.registry, LIVE)  # type: ignore[arg-type]
    card = card_of(world)
    assert address == world.registry.address(LIVE, PAGE)
    assert world.registry.text(LIVE, PAGE) == as_html(card)
    assert world.registry.text(LIVE, TEXT) == as_markdown(card)
    assert card.state == "LIVE"
    titles = {section.title for section in card.sections if section.tables or section.figures}
    assert {
        "What it showed in training", "How good it is on later transactions", "Is a probability what it says?",
        "Cost and capacity", "What it looks at", "What the ledger says",
    } <= titles  # fmt: skip


def test_its_figures_are_those_of_the_newest_evaluation_and_all_months_are_drawn(world: SmallWorld) -> None:
    (section,) = [one for one in card_of(world).sections if one.title.startswith("How good")]
    (table,), (figure,) = section.tables, section.figures
    assert table.columns == ("What", "champion v1", "challenger v2", "reference v2")
    assert table.rows[0][1:] == ("0.5", "0.6 [0.55, 0.65]", "0.4")
    assert figure.cells is not None
    assert [row[0] for row in figure.cells.rows] == ["2025-03", "2025-04"]


def test_a_version_that_was_only_the_champion_s_rival_has_the_same_rows(world: SmallWorld) -> None:
    assert card_of(world, 3).state == "NOT DECIDED"
    (section,) = [one for one in card_of(world, 3).sections if one.title.startswith("How good")]
    assert section.sentences == ("It has not been judged on later transactions yet.",)


def test_what_it_makes_of_its_features_is_worked_out_once(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    card_of(world)
    text = world.registry.text(LIVE, BEHAVIOUR)
    assert text is not None
    found = Behaviour.from_json(text)
    assert found.month == "2025-02"
    assert set(found.importance) == set(world.registry.fetch(LIVE)[1].features)
    assert next(iter(found.importance)) == "amount"
    monkeypatch.setattr(model_card, "behaviour", None)
    card_of(world)


@pytest.mark.parametrize(("name", "begin"), [("card.html", "<!doctype html>"), ("card.md", "# Model card")])
def test_the_file_s_name_says_which_kind(world: SmallWorld, tmp_path: Path, name: str, begin: str) -> None:
    path = write_card(
        world.settings,
        world.store,
        world.ledger,
        world.registry,
        LIVE,
        output=tmp_path / name,  # type: ignore[arg-type]
    )
    assert path.read_text(encoding="utf-8").startswith(begin)


def test_a_file_that_cannot_be_written_is_named(world: SmallWorld, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="the card cannot be written"):
        write_card(
            world.settings, world.store, world.ledger, world.registry, LIVE,  # type: ignore[arg-type]
            output=tmp_path / "file" / "card.html",
        )  # fmt: skip


def test_a_version_that_is_not_there_is_refused(world: SmallWorld) -> None:
    with pytest.raises(RegistryError, match="no version 99"):
        card_of(world, 99)
