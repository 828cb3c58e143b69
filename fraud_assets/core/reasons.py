"""Reasons as data: which rule, about which column, and the sentence for people.

Every room gives its reasons in this form, and they are stored in it. Sentences are joined where they are shown, and
nowhere else: a program decides by the rule, so a sentence can be reworded, and may hold any character. What to do about
a rule is looked up by the rule where it is shown, and is not stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Rule(StrEnum):
    """What a reason is about. The names are stored: one that is here stays, with its meaning."""

    # A row of a delivery or of a label file
    BELOW_MINIMUM = "below_minimum"
    ABOVE_MAXIMUM = "above_maximum"
    UNKNOWN_CATEGORY = "unknown_category"
    PATTERN_MISMATCH = "pattern_mismatch"
    MISSING_VALUE = "missing_value"
    UNREADABLE_VALUE = "unreadable_value"
    NO_SUCH_TIME = "no_such_time"
    AMBIGUOUS_TIME = "ambiguous_time"
    OUTSIDE_MONTH = "outside_month"
    OUTSIDE_CONTRACT = "outside_contract"
    IN_THE_FUTURE = "in_the_future"
    REPEATED_ID = "repeated_id"
    ID_OF_EARLIER_MONTH = "id_of_earlier_month"
    UNKNOWN_LABEL = "unknown_label"
    LABEL_TIME_MISSING = "label_time_missing"
    LABEL_BEFORE_TRANSACTION = "label_before_transaction"
    LABEL_TOO_LATE = "label_too_late"
    NOT_A_ROW = "not_a_row"

    # A month's drift report: the kinds of findings by their own names, then what is said of the whole
    COVARIATE = "covariate"
    MISSING = "missing"
    CATEGORY = "category"
    PREDICTION = "prediction"
    MULTIVARIATE = "multivariate"
    LABEL = "label"
    CONCEPT = "concept"
    ESTIMATE = "estimate"
    MORE_FINDINGS = "more_findings"
    NOTHING_MOVED = "nothing_moved"
    NOTHING_COMPARED = "nothing_compared"
    OTHER_REFERENCE = "other_reference"
    FEATURES_NOT_COMPARED = "features_not_compared"

    # A promotion
    NO_CHALLENGER = "no_challenger"
    ALREADY_CHAMPION = "already_champion"
    NOT_EVALUATED = "not_evaluated"
    TOO_FEW_FRAUDS = "too_few_frauds"
    DECISIONS_UNKNOWN = "decisions_unknown"
    PRECISION_UNKNOWN = "precision_unknown"
    OTHER_TRANSACTIONS = "other_transactions"
    DIFFERENCE_UNKNOWN = "difference_unknown"
    USELESS = "useless"
    BETTER_THAN_CHANCE = "better_than_chance"
    NOT_BETTER_THAN_CHANCE = "not_better_than_chance"
    MAYBE_CHANCE = "maybe_chance"
    BETTER = "better"
    WORSE = "worse"
    NOT_SHOWN_BETTER = "not_shown_better"
    OTHER_MODEL = "other_model"
    TOO_ALIKE = "too_alike"
    PARTS_UNKNOWN = "parts_unknown"
    CALIBRATION_UNKNOWN = "calibration_unknown"
    LABELS_NOT_MATURED = "labels_not_matured"
    DRIFT_UNKNOWN = "drift_unknown"
    TRAINING_UNKNOWN = "training_unknown"
    HARM = "harm"
    PART_HARMED = "part_harmed"
    MISCALIBRATED = "miscalibrated"
    SUSPECT_MONTH = "suspect_month"
    PACKAGE_UNKNOWN = "package_unknown"
    OTHER_SCORES = "other_scores"
    TOO_SLOW = "too_slow"
    TOO_LARGE = "too_large"
    IN_SHADOW = "in_shadow"
    NEEDS_APPROVAL = "needs_approval"
    PROMOTION_OFF = "promotion_off"
    TRAINED = "trained"
    BY_HAND = "by_hand"
    PRUNED = "pruned"
    UNKNOWN_VERSION = "unknown_version"

    # A retraining
    NO_DRIFT = "no_drift"
    BROKEN_DATA = "broken_data"
    BROKEN_LABELS = "broken_labels"
    DRIFT_OFF = "drift_off"
    DRIFTED = "drifted"
    WORSE_THAN_PROMISED = "worse_than_promised"
    TOO_OLD = "too_old"
    MODEL_DUE = "model_due"
    NEXT_ATTEMPT = "next_attempt"
    WAITS = "waits"
    GIVEN_UP = "given_up"
    IN_PROGRESS = "in_progress"
    ALREADY_RETRAINED = "already_retrained"
    COOL_DOWN = "cool_down"

    # What was done about people's rows
    ERASED = "erased"
    EXPIRED = "expired"

    # A month of a backtest
    POLICY_ASKS = "policy_asks"
    NOT_TRAINED = "not_trained"
    REPLAY_ENDS = "replay_ends"
    NOT_JUDGED = "not_judged"
    PARTLY_JUDGED = "partly_judged"
    MONTHS_JUDGED = "months_judged"

    # From before rules were stored
    NEXT_STEP = "next_step"
    """What an earlier version said to do next. It is not shown: that is looked up now."""
    EARLIER_VERSION = "earlier_version"
    """A sentence of an earlier version that was not recognised."""


@dataclass(frozen=True)
class Reason:
    """Why something is as it is.

    Attributes:
        rule: what it is about; programs decide by it.
        text: the sentence, or the part of one, for people.
        column: the column, or what was measured, where it is about one.
    """

    rule: Rule
    text: str
    column: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """As plain values, always in this order."""
        return {"rule": str(self.rule), "text": self.text, "column": self.column}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reason:
        """The reason with these values.

        Raises:
            ValueError: for a rule that is none.
        """
        return cls(Rule(values["rule"]), values["text"], values["column"])


def joined(reasons: Iterable[Reason], between: str = "; ") -> str:
    """The sentences joined, to be shown; never to be taken apart again.

    >>> joined([Reason(Rule.BELOW_MINIMUM, "amount is below 0", "amount"), Reason(Rule.NOT_A_ROW, "has 2 values")])
    'amount is below 0; has 2 values'
    >>> joined([Reason(Rule.BY_HAND, "It is better."), Reason(Rule.BY_HAND, "ada said so")])
    'It is better. ada said so'
    """
    texts = [reason.text for reason in reasons]
    # A whole sentence has its own end.
    return "".join(f"{text}{' ' if text.endswith('.') else between}" for text in texts[:-1]) + "".join(texts[-1:])


def reasons_to_json(reasons: Iterable[Reason]) -> str:
    """As they are stored in a table's text column: the same reasons are always the same text, and have one digest.

    >>> reasons_to_json([Reason(Rule.BELOW_MINIMUM, "amount is below 0", "amount")])
    '[{"rule": "below_minimum", "text": "amount is below 0", "column": "amount"}]'
    """
    return json.dumps([reason.to_dict() for reason in reasons], ensure_ascii=False)


def read_reasons(stored: Iterable[Mapping[str, Any]]) -> tuple[Reason, ...]:
    """The reasons that plain values say, as a jsonb column or metadata give them."""
    return tuple(Reason.from_dict(values) for values in stored)


def reasons_from_json(stored: str | None) -> tuple[Reason, ...]:
    """What `reasons_to_json` wrote; none where nothing is stored."""
    return read_reasons(json.loads(stored)) if stored else ()
