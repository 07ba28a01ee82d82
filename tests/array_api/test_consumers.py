"""SciPy and scikit-learn compute with tensors, and give what they give for NumPy's arrays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")

from tests.array_api.consumers import EXTRA, SCIPY

SKLEARN = (
    *("PCA", "LinearDiscriminantAnalysis", "Ridge", "accuracy_score", "f1_score"),
    *("confusion_matrix", "r2_score", "mean_squared_error", "cosine_similarity"),
    *("euclidean_distances", "StandardScaler", "MinMaxScaler", "Normalizer", "LabelEncoder"),
    *("PCA whitening", "LDA of probabilities", "RidgeCV", "log_loss", "mean_absolute_error"),
    *("rbf_kernel", "PolynomialFeatures", "GaussianNB", "LogisticRegression", "RobustScaler"),
    *("balanced_accuracy_score", "jaccard_score", "cohen_kappa_score", "LabelBinarizer"),
    *EXTRA,
)
NUMBERS = (  # Python floats
    *("accuracy_score", "f1_score", "r2_score", "mean_squared_error", "log_loss"),
    *("mean_absolute_error", "balanced_accuracy_score", "jaccard_score", "cohen_kappa_score"),
)


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """What consumers.py prints, with SciPy's dispatch switched on."""
    root = Path(__file__).resolve().parents[2]
    environment = {
        **os.environ,
        "SCIPY_ARRAY_API": "1",
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.array_api.consumers"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [*SCIPY, *SKLEARN])
def test_agrees_with_numpy(results: dict[str, Any], name: str) -> None:
    if name in SKLEARN and not set(SKLEARN) & set(results):
        pytest.skip("scikit-learn is not installed")
    if name in EXTRA and name not in results:
        pytest.skip("this scikit-learn brings an array_api_extra without it")
    found, wanted, kind = results[name]
    assert not isinstance(found, str), found
    assert kind == ("float" if name in NUMBERS else "Tensor")
    np.testing.assert_allclose(found, wanted, 1e-7 if kind == "float" else 1e-9, 1e-12)
