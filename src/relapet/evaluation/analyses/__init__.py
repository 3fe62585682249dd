"""Every analysis of an evaluation, in the order in which they run: one file and one row each."""

from __future__ import annotations

from relapet.evaluation.analyses import (
    accuracy,
    agreement,
    centiloid,
    comparison,
    downstream,
    external,
    leaks,
    positivity,
    probability,
    spectra,
    uncertainty,
)
from relapet.evaluation.interface import Analysis

ANALYSES: tuple[Analysis, ...] = (
    Analysis("accuracy", "Accuracy", accuracy.TABLES, accuracy.run, "accuracy"),
    Analysis("agreement", "Agreement", agreement.TABLES, agreement.run, "agreement over subjects"),
    Analysis("centiloid", "Centiloids", centiloid.TABLES, centiloid.run, "Centiloids"),
    Analysis("positivity", "Positivity", positivity.TABLES, positivity.run, "positivity"),
    Analysis(
        "comparison", "Comparison of methods", comparison.TABLES, comparison.run, "comparison of methods"
    ),
    Analysis("leaks", "Leaks", leaks.TABLES, leaks.run, "leak checks"),
    Analysis("spectra", "Spectra", spectra.TABLES, spectra.run, "power spectra"),
    Analysis("uncertainty", "Uncertainty", uncertainty.TABLES, uncertainty.run, "uncertainty"),
    Analysis(
        "probability",
        "Probability of positivity",
        probability.TABLES,
        probability.run,
        "probability of positivity",
    ),
    Analysis(
        "downstream", "Prediction of outcomes", downstream.TABLES, downstream.run, "prediction of outcomes"
    ),
    Analysis(
        "external", "Another cohort", external.TABLES, external.run, "comparison with the internal evaluation"
    ),
)
