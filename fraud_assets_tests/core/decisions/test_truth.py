"""What does not say what the ledger says: from a base in which all agree, with one override a case."""

from dataclasses import replace

import pytest

from fraud_assets.core.decisions.ledger import Standing
from fraud_assets.core.decisions.truth import Seen, Service, disagreements

STANDING = Standing(champion=3, event=9, previous=2, challenger=4)
AGREED = Seen(
    aliases={"champion": 3, "previous_champion": 2, "challenger": 4},
    versions=frozenset({1, 2, 3, 4}),
    bento_version=3,
    services=(Service(17, 3),),
)


def test_where_all_agree_nothing_is_said():
    assert disagreements(STANDING, AGREED) == []
    assert disagreements(Standing(None, 0, None, None), Seen(aliases={}, versions=frozenset())) == []


@pytest.mark.parametrize(
    ("change", "subject", "said"),
    [
        ({"aliases": AGREED.aliases | {"champion": 2}}, "alias", "champion in MLflow points to version 2, and"),
        ({"aliases": {"champion": 3, "challenger": 4}}, "alias", "previous_champion in MLflow points to no version"),
        ({"aliases": AGREED.aliases | {"challenger": 9}}, "alias", "challenger in MLflow points to version 9"),
        ({"unknown": [5]}, "registry", "version 5 is in MLflow, and the ledger has no event about it"),
        ({"bento_version": 2}, "bento", "version 2 is named for serving, and by the ledger it is version 3"),
        ({"bento_is_there": False}, "bento", "the bento of version 3 is not there any more"),
        ({"services": (Service(17, 2),)}, "service", "(process 17) answers with version 2, and by the ledger"),
        ({"services": (Service(17, 2, "no feature x"),)}, "service", "it refused the other one: no feature x"),
        ({"aliases": None, "versions": None, "not_asked": "down"}, "registry", "MLflow was not asked: down"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_each_that_differs_is_named_with_what_to_do(change, subject, said):
    (found,) = disagreements(STANDING, replace(AGREED, **change))
    assert found.subject == subject
    assert said in found.sentence


def test_a_champion_that_was_deleted_in_mlflow_is_named_once():
    aliases = {"previous_champion": 2, "challenger": 4}
    (found,) = disagreements(STANDING, replace(AGREED, versions=frozenset({2, 4}), aliases=aliases))
    assert found.subject == "registry"
    assert "version 3 is champion by the ledger, and MLflow has no such version any more" in found.sentence
    assert "`fraud rollback`" in found.sentence
