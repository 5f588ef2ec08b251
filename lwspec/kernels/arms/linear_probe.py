"""Logistic regression on the sender's states: can a classifier do without the receiver?

Same layer and prompt as the bridge. Features are standardised on train; cross-validation on train
picks C, one fit on all of train follows, and test is seen once. No random choice is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration, Need
from lwspec.engine.fields import Frozen
from lwspec.errors import DataError
from lwspec.kernels.arm import Arm, Batch, Setup, Solved

if TYPE_CHECKING:
    from torch import Tensor


class Settings(Frozen):
    """What a spec may set in `linear_probe = { ... }`."""

    layer: Annotated[int, Field(ge=0)]
    """The sender's layer whose output is read: 0 is the embeddings."""
    pooling: Literal["last", "mean"] = "last"
    """How a text's states become one vector."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Of the cross-validation that chooses the penalty."""
    inverse_penalties: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=1)
    ] = (0.001, 0.01, 0.1, 1.0)
    """The values of C that cross-validation chooses among."""


def needs(settings: Settings) -> tuple[Need, ...]:
    """The sender's pooled states."""
    return (Need("pooled", {"pooling": settings.pooling}),)


def solve(setup: Setup, batch: Batch, labels: Sequence[int], num_labels: int) -> Solved:
    """Choose C by stratified cross-validation, then fit once on everything."""
    import numpy
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    settings: Settings = setup.settings
    scarcest = min(labels.count(label) for label in set(labels))
    if scarcest < settings.folds:
        raise DataError(
            f"{settings.folds} folds need as many rows of each label; one has {scarcest}",
            remedy="set `folds` lower, or samples higher",
        )
    assert batch.pooled is not None
    features = batch.pooled.double().numpy()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, tol=1e-4)),
        {"logisticregression__C": list(settings.inverse_penalties)},
        cv=StratifiedKFold(settings.folds),
        scoring="accuracy",
    )
    search.fit(features, numpy.asarray(labels))
    scaler, regression = (step for _, step in search.best_estimator_.steps)
    weights, bias = _all_labels(regression, num_labels)
    return Solved(
        {
            "mean": torch.from_numpy(scaler.mean_),
            "scale": torch.from_numpy(scaler.scale_),
            "weights": torch.from_numpy(weights),
            "bias": torch.from_numpy(bias),
        },
        {
            "cross_validation_accuracy": float(search.best_score_),
            "inverse_penalty": float(search.best_params_["logisticregression__C"]),
        },
        parameters=weights.size + bias.size,
    )


def _all_labels(regression: Any, num_labels: int) -> tuple[Any, Any]:
    """Weights [labels, width] and biases; a label that train lacks can never win."""
    import numpy

    weights, bias = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:
        weights, bias = numpy.vstack([-weights, weights]) / 2, numpy.hstack([-bias, bias]) / 2
    whole = numpy.zeros((num_labels, weights.shape[1]))
    offsets = numpy.full(num_labels, -1e9)
    whole[regression.classes_], offsets[regression.classes_] = weights, bias
    return whole, offsets


def predict(setup: Setup, batch: Batch) -> Tensor:
    """Log-probabilities [rows, labels] in float64."""
    import torch

    assert batch.pooled is not None
    weights = setup.weights
    standard = (batch.pooled.double() - weights["mean"]) / weights["scale"]
    return torch.log_softmax(standard @ weights["weights"].T + weights["bias"], -1)


ARM = Arm(
    ArmDeclaration(
        name="linear_probe",
        version=1,
        generates=False,
        regime="private",
        settings=Settings,
        needs=needs,
        trained=True,
    ),
    solve=solve,
    predict=predict,
)
