"""What many write first: FastAPI, a model of scikit-learn, and `predict_proba`. The service is measured beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from fastapi import FastAPI
from pydantic import BaseModel

MODEL_VARIABLE = "PEER_MODEL"


class Rows(BaseModel):
    features: list[dict[str, float | None]]


def make() -> FastAPI:
    app = FastAPI()
    file = Path(os.environ[MODEL_VARIABLE])
    kept: dict[str, Any] = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    model, names, threshold = kept["model"], kept["names"], kept["threshold"]

    @app.post("/score")
    def score(rows: Rows) -> dict[str, Any]:
        X = np.array([[row[name] for name in names] for row in rows.features], dtype=np.float32)
        probabilities = model.predict_proba(X)[:, 1].tolist()
        return {
            "threshold": threshold,
            "results": [
                {"probability": one, "decision": "review" if one >= threshold else "approve"} for one in probabilities
            ],
        }

    return app
