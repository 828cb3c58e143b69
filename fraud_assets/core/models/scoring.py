"""Scoring: what a packaged model says about itself, and probabilities from its ONNX bytes.

Everything that serving needs to turn a feature table into decisions, on NumPy, PyArrow and ONNX Runtime
alone. Conversion to ONNX belongs to `adapters/onnx_models.py`, packaging to `adapters/bento.py`, making features to
`features/declarations.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import onnxruntime
import pyarrow as pa
import pyarrow.compute as pc
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_state
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fraud_assets.core.contracts.contract import Contract, ContractError, parse_contract
from fraud_assets.core.models.decision_rule import DecisionRule
from fraud_assets.core.models.encoding import Encoder
from fraud_assets.core.months import check_month

# What ONNX Runtime raises for bytes it cannot use; the classes share no base but Exception.
LOAD_ERRORS = (
    onnx_state.Fail,
    onnx_state.InvalidArgument,
    onnx_state.InvalidGraph,
    onnx_state.InvalidProtobuf,
    onnx_state.NotImplemented,
    onnx_state.RuntimeException,
)

# Where scores are counted: how those of now lie is compared with how those of the validation lay.
SCORE_EDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

INPUT_NAME = "features"
OUTPUT_NAME = "probability"

Decision = Literal["review", "approve"]
Family = Literal["logistic_regression", "random_forest", "hist_gradient_boosting"]

SCORES_SCHEMA = pa.schema(
    [
        pa.field("score", pa.float64(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("model_version", pa.int64(), nullable=False),
    ]
)


class ScoringError(ValueError):
    """A model or a feature table that cannot be scored; the message names the place and the remedy."""


def digest_model(onnx_bytes: bytes) -> str:
    """SHA-256 of a model's ONNX bytes, 64 hexadecimal digits: its name in manifests, bentos and ledger."""
    return hashlib.sha256(onnx_bytes).hexdigest()


class ModelManifest(BaseModel):
    """What travels with a model's ONNX bytes, so that they can be used without registry or repository.

    Attributes:
        model_name: the registered model's name.
        model_version: its version in the registry, from 1.
        trained_month: the month it was trained for, YYYY-MM.
        as_of: what was known at this instant trained it; ISO 8601 with a time zone.
        training_from, training_to: event times of the first and last transaction it was trained on; None in manifests
            from before they were noted.
        features: the columns of a table of features that the model needs, numbers first, then texts.
        encoder: from these to the model's own columns; None in manifests from before there were texts, whose features
            are all numbers and the model's columns.
        threshold: probability, 0 to 1, from which a transaction is sent to review.
        family: the kind of model.
        contract_yaml: text of the source's contract, from which transactions can be turned into features.
        model_digest: SHA-256 of the ONNX bytes.
        metrics: how it did when it was validated, by name.
        rule: the threshold in words, and what it promised; None in manifests from before it was noted.
        score_shares: share of the validation's scores at or below each of `SCORE_EDGES`, written as text; None, and not
            written, where that was not noted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_name: Annotated[str, Field(min_length=1)]
    model_version: Annotated[int, Field(ge=1)]
    trained_month: str
    as_of: str
    features: Annotated[tuple[str, ...], Field(min_length=1)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    family: Family
    contract_yaml: str
    model_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    metrics: dict[str, float] = {}
    training_from: datetime | None = None
    training_to: datetime | None = None
    rule: DecisionRule | None = None
    encoder: Encoder | None = None
    score_shares: dict[str, float] | None = None

    @field_validator("trained_month")
    @classmethod
    def _month(cls, value: str) -> str:
        return check_month(value)

    @field_validator("as_of")
    @classmethod
    def _instant(cls, value: str) -> str:
        if datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("as_of needs a time zone, for example 2018-08-01T00:00:00+00:00")
        return value

    @field_validator("features")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"features named more than once: {twice}")
        return value

    @model_validator(mode="after")
    def _encoder_takes_the_features(self) -> Self:
        if self.encoder is not None and self.encoder.inputs != self.features:
            raise ValueError(f"the encoder takes {self.encoder.inputs}, and the features are {self.features}")
        return self

    @property
    def encoding(self) -> Encoder:
        """The encoder; that of a manifest without one leaves everything as it is."""
        return self.encoder or Encoder(self.features)

    @property
    def contract(self) -> Contract:
        """The contract, read from its text.

        Raises:
            ContractError: when the text is not a contract.
        """
        return parse_contract(self.contract_yaml, f"the contract in the manifest of {self.model_name}")

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the files of a packaged model, by name, as the ledger has them."""
        manifest = hashlib.sha256(self.to_json().encode("utf-8")).hexdigest()
        return {"model.onnx": self.model_digest, "manifest.json": manifest}

    def to_json(self) -> str:
        """The manifest as indented JSON; `from_json` reads it back to an equal manifest."""
        # The ledger has the digests of manifests from before there were shares.
        return self.model_dump_json(indent=2, exclude={"score_shares"} if self.score_shares is None else None)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads a manifest.

        Raises:
            ScoringError: naming each field that is wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in problem['loc']) or 'manifest'}: {problem['msg']}"
                for problem in error.errors()
            )
            raise ScoringError(f"this is not a model manifest: {problems}; package the model again") from error


def score_shares(scores: npt.NDArray[np.float64]) -> dict[str, float]:
    """How scores lie: the share of them at or below each of `SCORE_EDGES`.

    >>> shares = score_shares(np.array([0.0005, 0.001, 0.25, 0.97]))
    >>> shares["0.001"], shares["0.2"], shares["0.3"], shares["1.0"]
    (0.5, 0.5, 0.75, 1.0)
    """
    counts = np.searchsorted(np.sort(scores), SCORE_EDGES, side="right")
    return {str(edge): round(float(count / len(scores)), 6) for edge, count in zip(SCORE_EDGES, counts, strict=True)}


class Scorer:
    """A model ready to score.

    Safe to call from several threads at once: an ONNX Runtime session is.
    """

    def __init__(self, onnx_bytes: bytes, manifest: ModelManifest, *, threads: int = 1) -> None:
        """Loads the model and checks that it is the one the manifest describes.

        Args:
            onnx_bytes: the model, as `packaging.to_onnx` makes it.
            manifest: what it says about itself.
            threads: threads that one call may use. One by default: services scale by processes, and threads
                that wait for work cost more than a small batch takes.

        Raises:
            ScoringError: when the bytes are not the manifest's model, are no model, or expect other features.
        """
        name = f"{manifest.model_name} version {manifest.model_version}"
        if (digest := digest_model(onnx_bytes)) != manifest.model_digest:
            raise ScoringError(
                f"the ONNX bytes of {name} have digest {digest[:12]}, its manifest says "
                f"{manifest.model_digest[:12]}: "
                "they were changed or swapped after training; fetch the version again or package it again"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
        except LOAD_ERRORS as error:
            raise ScoringError(f"ONNX Runtime cannot read {name}: {error}; convert the model again") from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if [node.name for node in inputs] != [INPUT_NAME] or OUTPUT_NAME not in [node.name for node in outputs]:
            raise ScoringError(
                f"{name} does not take {INPUT_NAME!r} and give {OUTPUT_NAME!r}; convert it with packaging.to_onnx"
            )
        encoder = manifest.encoding
        if (width := inputs[0].shape[1]) != len(encoder.columns):
            raise ScoringError(
                f"{name} takes {width} features, its manifest names {len(encoder.columns)}; package it "
                "anew from the feature list it was trained with"
            )
        self.manifest = manifest
        self._session = session
        self._encoder = encoder
        self._columns = encoder.columns

    def score(self, features: pa.Table) -> npt.NDArray[np.float64]:
        """The probability of fraud of each row of a table of features.

        Args:
            features: the manifest's features, in any order among any other columns: numbers or booleans, where null and
                NaN both mean not known, and texts.

        Returns:
            float64 [n], 0 to 1.

        Raises:
            ScoringError: naming the columns that are missing or of another type, or the cell that is infinite.
        """
        if self.manifest.encoder is None:
            features = _with_categories(features, self.manifest)
        return self.probabilities(model_matrix(features, self._encoder))

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float64]:
        """As `score`, of rows by name: for a few, for which a table would cost more than the model."""
        return self.probabilities(rows_matrix(rows, self._encoder))

    def probabilities(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The probability of fraud.

        Args:
            X: float32 [n, p], columns as `manifest.encoding` gives them; NaN where a feature is not known.

        Returns:
            float64 [n], 0 to 1.

        Raises:
            ScoringError: for another shape, an infinite value, or a row the model gives no probability for.
        """
        features = self._columns
        if X.ndim != 2 or X.shape[1] != len(features):
            raise ScoringError(
                f"the model takes rows of {len(features)} features, got an array of shape {X.shape}; "
                f"give one column for each of {', '.join(features)}"
            )
        X = np.ascontiguousarray(X, dtype=np.float32)
        if len(X) == 0:
            return np.empty(0, dtype=np.float64)
        if np.isinf(X).any():
            row, column = np.argwhere(np.isinf(X))[0]
            raise ScoringError(
                f"feature {features[column]!r} of row {row} is infinite or beyond float32; "
                "give a finite number, or leave it empty when it is not known"
            )
        (probability,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: X})
        scores = np.asarray(probability, dtype=np.float64).reshape(-1)
        if np.isnan(scores).any():
            # NaN compares false with any threshold and would pass as `approve`.
            row = int(np.flatnonzero(np.isnan(scores))[0])
            empty = [name for name, value in zip(features, X[row], strict=True) if np.isnan(value)]
            raise ScoringError(
                f"the model gives no probability for row {row}, in which {', '.join(empty) or 'no feature'} "
                "is missing; give the values, or train a model that handles missing ones"
            )
        return scores

    def kept(self, key: str) -> str | None:
        """What the model's file keeps beside the model under this key; None where there is nothing."""
        text: str | None = self._session.get_modelmeta().custom_metadata_map.get(key)
        return text

    def decide(self, probabilities: npt.NDArray[np.float64]) -> list[Decision]:
        """What to do with each transaction: `review` from the manifest's threshold on, else `approve`."""
        return ["review" if flagged else "approve" for flagged in probabilities >= self.manifest.threshold]

    def score_table(self, features: pa.Table) -> pa.Table:
        """Scores a table of features.

        Args:
            features: as for `score`.

        Returns:
            One row per row, in the same order: `score` (probability, 0 to 1), `decision`, `model_version`.

        Raises:
            ScoringError: as `score`.
        """
        scores = self.score(features)
        versions = np.full(len(scores), self.manifest.model_version, dtype=np.int64)
        return pa.table([scores, self.decide(scores), versions], schema=SCORES_SCHEMA)


def model_matrix(features: pa.Table, encoder: Encoder) -> npt.NDArray[np.float32]:
    """What a model computes with, float32 [n, len(encoder.columns)], of a table of features.

    Raises:
        ScoringError: naming the columns that are missing, or of another type.
    """
    texts = [_text(features, one.name) for one in encoder.texts]
    return encoder.encode(feature_matrix(features, encoder.numbers), texts)


def rows_matrix(rows: Sequence[Mapping[str, Any]], encoder: Encoder) -> npt.NDArray[np.float32]:
    """As `model_matrix`, of rows by name."""
    numbers = np.array([[row[name] for name in encoder.numbers] for row in rows], dtype=np.float32)
    texts = [pa.array([row[one.name] for row in rows], pa.string()) for one in encoder.texts]
    return encoder.encode(numbers.reshape(len(rows), len(encoder.numbers)), texts)


def feature_matrix(features: pa.Table, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """A table's named columns as float32 [n, p]; null becomes NaN.

    Raises:
        ScoringError: naming the columns that are missing, or that are no numbers.
    """
    _require(features, names)
    matrix = np.empty((features.num_rows, len(names)), dtype=np.float32)
    for position, name in enumerate(names):
        matrix[:, position] = _float32(features.column(name), name)
    return matrix


def _require(features: pa.Table, names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in features.column_names]:
        raise ScoringError(
            f"the table lacks the features {', '.join(missing)}; make it with the compute_features of the "
            "version that trained the model"
        )


def _text(features: pa.Table, name: str) -> pa.ChunkedArray:
    _require(features, [name])
    values = features[name]
    if pa.types.is_null(values.type):
        return values.cast(pa.string())
    if not pa.types.is_string(values.type):
        raise ScoringError(f"feature {name!r} has type {values.type}; the model takes it as text")
    return values


def _with_categories(features: pa.Table, manifest: ModelManifest) -> pa.Table:
    """With a column for each category of a text, as they were features of their own before models had an encoder."""
    if not (lacking := set(manifest.features).difference(features.column_names)):
        return features
    try:
        attributes = manifest.contract.attributes
    except ContractError:
        return features  # it then lacks columns, which is said where it is missed
    for name, column in attributes.items():
        for category in column.categories or ():
            feature = f"{name}_is_{re.sub('[^a-z0-9]+', '_', category.lower())}"
            if feature in lacking and name in features.column_names:
                features = features.append_column(feature, pc.equal(features[name], category))
    return features


def _float32(column: Any, name: str) -> npt.NDArray[np.float32]:
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise ScoringError(f"feature {name!r} has type {kind}; features are numbers")
    # Not the safe cast: it refuses integers that float32 rounds, which is what training saw too.
    values = pc.cast(column, pa.float32(), safe=False)
    return np.asarray(pc.fill_null(values, np.float32(np.nan)).to_numpy(), dtype=np.float32)
