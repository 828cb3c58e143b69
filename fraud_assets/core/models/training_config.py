"""How models are trained, as plain values: which families and settings compete, on which rows, judged how.

Apart from `training.py`, so that what is stale can be told without loading what trains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from fraud_assets.core.digests import digest_text
from fraud_assets.core.models.encoding import EncodingConfig
from fraud_assets.core.models.scoring import Family
from fraud_assets.core.statistics.costs import Costs

Imbalance = Literal["undersample", "none", "class_weight", "smote", "borderline_smote"]
"""What is done about frauds being rare, to the rows a model is fitted on and never to those that judge it.

undersample: every fraud and a share of the genuine rows. none: all rows. class_weight: all rows, frauds weighted to
the sum of the genuine ones. smote, borderline_smote: as undersample, then synthetic frauds between neighbouring ones
up to the number of genuine rows (Chawla et al., 2002; Han et al., 2005).

What it does to the odds is known and taken back. With class weights and synthetic frauds models come out too sure of
themselves beyond that, which only calibration mends: on weeks with too few frauds for it, expected over observed frauds
were 0.63 and 0.50 (`make bench-imbalance`).
"""

REFERENCE: Family = "logistic_regression"


@dataclass(frozen=True)
class Setting:
    """A family with hyperparameters.

    Attributes:
        family: which.
        name: tells it from the other settings of its family.
        parameters: by scikit-learn's names.
    """

    family: Family
    name: str
    parameters: Mapping[str, float | int | str]


# Measured on the Handbook folds. Twice the rate with half the trees lost 0.001 with all history and 0.002 with 7 days,
# on every fold; splits that see a part of the features, stronger shrinking and larger leaves changed less than 0.001,
# which is noise; 6 or 8 leaves lost 0.002 to 0.015, most where frauds are few. 31 leaves beside these won 5 of 19
# validations (months of the Handbook, evalml's cards and registrations, 430 to 14,832 frauds) and brought nothing later
# on: mean AP of the folds 0.7698 with them and 0.7700 without, with 7 days 0.748 and 0.749. They took a third of the
# time.
# LightGBM came out equal to scikit-learn's boosting on the same folds and features (0.766 and 0.7663), so no boosting
# library is added.
_BOOSTING: dict[str, float | int | str] = {"learning_rate": 0.035, "min_samples_leaf": 40, "l2_regularization": 1.0}
GRID: tuple[Setting, ...] = (
    # The yardstick. Shrinking it a hundred times as much lost 0.02 to 0.08, even with 7 days of rows.
    Setting("logistic_regression", "C=1", {"C": 1.0}),
    Setting("hist_gradient_boosting", "15 leaves", {"max_leaf_nodes": 15, **_BOOSTING}),
    # Bounded in every direction, so that neither time nor the ONNX file grows with the rows. Not among the families by
    # default: on the folds a forest took ten times as long as boosting and reached 0.715, where boosting had 0.735.
    Setting(
        "random_forest",
        "100 trees",
        {"n_estimators": 100, "max_leaf_nodes": 1000, "min_samples_leaf": 3, "max_features": "sqrt"},
    ),
)
# Where frauds are few. Measured on claims, purchases, and extracts of registrations and of evalml's and the Handbook's
# card transactions, with 11 to 240 frauds to learn from, each cut at two times. The one of these that validated best
# had, on two such rounds, an average precision of 0.711 and 0.759 later on, the settings above 0.616 and 0.725, and
# scikit-learn's own defaults 0.640 and 0.734. Leaves of 40 rows are larger than all the frauds there are. Smaller trees
# yet (4 leaves of 5) and forests whose splits see half of the features beside these added nothing; half the rate with
# twice the trees neither.
FEW_GRID: tuple[Setting, ...] = (
    Setting("logistic_regression", "C=0.1", {"C": 0.1}),
    # The best of all on a hundredth of the Handbook's cards.
    Setting("logistic_regression", "C=0.01", {"C": 0.01}),
    Setting(
        "hist_gradient_boosting",
        "6 leaves",
        {"max_leaf_nodes": 6, "min_samples_leaf": 10, "learning_rate": 0.07, "l2_regularization": 1.0},
    ),
    # Never far from the best, whatever the data.
    Setting(
        "random_forest",
        "100 trees",
        {"n_estimators": 100, "max_leaf_nodes": 1000, "min_samples_leaf": 3, "max_features": "sqrt"},
    ),
)


@dataclass(frozen=True)
class TrainingConfig:
    """How models are trained.

    Attributes:
        families: the candidates.
        grid: the settings of the families; of each family the one that validates best is taken.
        window_months: how many months of rows, the newest first, a model may see (a sliding window); None for all
            there are (an expanding one). 12: a year holds each season once.
        half_life_days: rows count half as much for every so many days of age. None: all rows count alike; decay
            brought nothing beyond noise on the Handbook folds, and scikit-learn 1.9 bins weighted rows seven times
            slower.
        validation_share: the newest part of the window, by time, that chooses among settings and families, calibrates,
            and sets the threshold. A quarter: in a single month that is a week, the shortest span with every weekday.
        block_days: how long a block of it is at most. 28: about what a model is live for before the next one, and
            every weekday four times.
        blocks: how many blocks validate at most, the newest first. 2: each one costs a fit of every setting.
        maximum_trees: of boosting; how many are used is chosen on the blocks. 150: with up to 250, blocks chose 100 to
            250, training on the Handbook folds took 35 s of a core instead of 25, and AP was level: 0.7700 and with 150
            0.7702, with 7 days 0.7487 and 0.7488, on evalml's cards 0.9227 and 0.9223, on registrations 0.904 twice. To
            stop once the log loss has not fallen for 75 trees would have ended one of five Handbook fits.
        imbalance: what is done about frauds being rare.
        genuine_share: the share of genuine rows that undersampling keeps; every fraud is kept, and the odds are set
            right again. 0.15: on the Handbook folds, with all history, 0.08 lost 0.005 of AP and 0.3 lost 0.007.
        minimum_genuine: genuine rows to keep at least, if there are so many. 50,000: below that, dropping rows saves
            nothing worth having.
        maximum_genuine: genuine rows to keep at most. 200,000: a year of Handbook months trains in two minutes.
        minimum_frauds: fewer matured frauds, or genuine rows, in the window train nothing. 30: a third to learn from
            and the others to judge with; with fewer the interval of what is shown has hardly an end.
        block_frauds: fewer before or in a validation block judge nothing by themselves. 20: with fewer, the choice
            among families is a coin.
        few_frauds: with fewer in the window, `few_grid` competes instead of `grid`, and is judged on folds over most of
            the window. 400: with up to 240 to learn from the settings of `few_grid` were better or level on every set
            that was tried, and with the 1,000 of all registrations those of `grid`.
        few_grid: the settings then. Where boosting is a candidate, the forest is, too.
        few_genuine: genuine rows to keep at least, then. 10,000: the forest, which is slow on many rows, takes seconds.
            5,000 of 13,000 and of 18,000 lost it 0.01 and 0.02 of average precision on an extract of the Handbook.
        few_trees: of boosting at most, then. 150: at the rate of `few_grid`, 25 to 150 were best.
        first_share: the oldest share of the frauds, that the first fold learns from. A quarter: it leaves most for
            judging, and has some frauds where there are 30.
        folds: how many. 4: each one costs a fit of every setting, and the later ones have most to learn from.
        calibration_frauds: with fewer frauds in either half of the validation part, probabilities are left as they are.
            100: the standard error of expected over observed is then a tenth.
        review_capacity: cards a day that can be reviewed, on average; bounds the decision threshold.
        costs: of reviews and missed frauds; the decision threshold has the lowest expected cost.
        encoding: how texts become numbers.
        seed: of the sampling and of the models.

    Raises:
        ValueError: for values that cannot be, or that do not go together.
    """

    families: tuple[Family, ...] = ("logistic_regression", "hist_gradient_boosting")
    grid: tuple[Setting, ...] = GRID
    window_months: int | None = 12
    half_life_days: float | None = None
    validation_share: float = 0.25
    block_days: int = 28
    blocks: int = 2
    maximum_trees: int = 150
    imbalance: Imbalance = "undersample"
    genuine_share: float = 0.15
    minimum_genuine: int = 50_000
    maximum_genuine: int = 200_000
    minimum_frauds: int = 30
    block_frauds: int = 20
    few_frauds: int = 400
    few_grid: tuple[Setting, ...] = FEW_GRID
    few_genuine: int = 10_000
    few_trees: int = 150
    first_share: float = 0.25
    folds: int = 4
    calibration_frauds: int = 100
    review_capacity: int = 100
    costs: Costs = field(default_factory=Costs)
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    seed: int = 7

    def __post_init__(self) -> None:
        if unknown := sorted({*self.families, REFERENCE} - {setting.family for setting in self.grid}):
            raise ValueError(f"no setting for {', '.join(unknown)}; the families are {', '.join(get_args(Family))}")
        if not self.families:
            raise ValueError(f"no family to train; name some of {', '.join(get_args(Family))}")
        if self.imbalance not in get_args(Imbalance):
            raise ValueError(f"imbalance is {self.imbalance!r}; it can be {', '.join(get_args(Imbalance))}")
        if self.review_capacity < 1:
            raise ValueError(f"review_capacity is {self.review_capacity}; a threshold needs 1 card a day or more")
        if self.window_months is not None and self.window_months < 1:
            raise ValueError(f"window_months is {self.window_months}; a window has 1 month or more, or None for all")
        if self.half_life_days is not None and self.half_life_days <= 0:
            raise ValueError(f"half_life_days is {self.half_life_days}; give a positive number, or None for no decay")
        if self.half_life_days is not None and "smote" in self.imbalance:
            raise ValueError(f"synthetic rows of {self.imbalance} have no age; leave half_life_days out")

    @property
    def digest(self) -> str:
        """SHA-256 of everything above: when it changes, other models come out."""
        return digest_text(repr(self))

    def to_json(self) -> str:
        """The configuration as text; `from_json` makes an equal one of it, which has the same digest."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrainingConfig | None:
        """Reads what `to_json` wrote; None where that is no configuration of this code."""
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError:
            return None

    def as_parameters(self) -> dict[str, Any]:
        """The configuration as flat parameters for the registry."""
        left_out = ("families", "grid", "few_grid", "costs", "encoding")
        flat = {name: value for name, value in asdict(self).items() if name not in left_out}
        flat |= {f"cost_{name}": value for name, value in asdict(self.costs).items()}
        flat |= {f"encoding_{name}": value for name, value in asdict(self.encoding).items()}
        tried = [f"{setting.family} {setting.name}" for setting in self.grid if setting.family in self.families]
        return {**flat, "families": ",".join(self.families), "settings": ", ".join(tried)}
