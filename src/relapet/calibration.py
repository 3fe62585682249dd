"""Calibrating a run on its validation subjects, so that synthesis gives intervals that hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from relapet.evaluation.uncertainty.conformal import (
    LEVEL_KEY,
    Calibration,
    add_intervals,
    calibrate,
    load_calibration,
    read_predictions,
    save_calibration,
)
from relapet.evaluation.uncertainty.coverage import UncertaintyConfig
from relapet.evaluation.uncertainty.positivity import THRESHOLD_KEY, fit_positivity
from relapet.evaluation.uncertainty.voi_tables import (
    KEYS,
    PROBABILITY,
    measure_vois,
    pair_with_real,
    read_voi_tables,
)
from relapet.files import read_json, temporary_folder
from relapet.imaging.bids import index_derivative, sidecar_path
from relapet.imaging.derivatives import index_measured
from relapet.locks import locked
from relapet.messages import Messages, counted
from relapet.runs import RunFolder
from relapet.synthesis.sample_config import SampleConfig
from relapet.synthesis.synthesize import MEAN_OVER_SAMPLES, Request, synthesize_dataset
from relapet.synthesis.synthesizer import Synthesis, Synthesizer
from relapet.tracers import TracerSpec
from relapet.types import Json


def settings_of(sample: SampleConfig) -> dict[str, str | int]:
    """What of the sampler decides the residuals of a mean over samples."""
    sampler = f"{sample.sampler} with eta {sample.eta:g}" if sample.eta else sample.sampler
    return {"sampler": sampler, "steps": sample.steps, "count": sample.count, "seed": sample.seed}


def calibrate_run(run: RunFolder, derivatives: Path, messages: Messages) -> Calibration | None:
    """Synthesise the validation subjects as `synthesize` would, and write the run's calibration.json.

    Nothing is written for a run without validation subjects or whose output is no SUVr. Raises InputError as
    synthesis does.
    """
    synthesizer = Synthesizer.from_run(run.path)
    people = synthesizer.manifest.split.get("validation", [])
    if not people or synthesizer.caution is not None:
        return None
    index = [files for files in index_measured(derivatives) if files.visit.subject in people]
    tracers = [synthesizer.tracer(name) for name in synthesizer.manifest.tracers]
    with locked(run.path), temporary_folder(run.path) as folder:
        request = Request(tuple(tracers), synthesizer.sample, split="validation")
        outcome = synthesize_dataset(derivatives, folder, synthesizer, request, messages)
        if not outcome.done:
            messages.warn(
                "No validation subject could be synthesised, so the run has no calibrated intervals."
            )
            return None
        predicted = read_predictions(folder)
        drawn = _is_mean_over_samples(folder)
        single = _first_samples(folder) if drawn and synthesizer.sample.count > 1 else None
    sampling = settings_of(synthesizer.sample) if drawn else {}
    measured = measure_vois(index, synthesizer.grid, messages.warn)

    def calibrated(table: pd.DataFrame) -> Calibration:
        # Not scaled by the SD over samples: it depends on their number, and so would the intervals.
        pairs = pair_with_real(table.assign(sd=float("nan")), measured)
        return calibrate(pairs, UncertaintyConfig(), run.weights_sha256(), sampling)

    positivity = fit_positivity(pair_with_real(predicted, measured), synthesizer.sample.count, drawn)
    calibration = calibrated(predicted).model_copy(update={"positivity": positivity})
    if single is not None:
        calibration = calibration.model_copy(update={"single": calibrated(single).vois})
    save_calibration(calibration, run.calibration)
    return calibration


def _is_mean_over_samples(root: Path) -> bool:
    """Whether the maps depend on the samples at all: not where the method gives its conditional mean in one call."""
    maps = [path for files in index_derivative(root, "synth") for path in files.pet.values()]
    sidecars = [read_json(sidecar_path(path)) for path in maps]
    return any("Seeds" in sidecar and sidecar["MeanBy"] == MEAN_OVER_SAMPLES for sidecar in sidecars)


def _first_samples(root: Path) -> pd.DataFrame:
    """The VOI means of the first sample alone, as `read_predictions` gives those of the mean map."""
    tables = pd.concat(read_voi_tables(root, "synthsamples").values(), ignore_index=True)
    return tables.assign(mean=tables["sample-0"])[[*KEYS, "mean"]]


@dataclass(frozen=True)
class Intervals:
    """The columns low, high and probability_positive of a VOI table, and what its JSON says of them."""

    calibration: Calibration
    level: float

    def add(self, synthesis: Synthesis, table: pd.DataFrame) -> tuple[pd.DataFrame, Json]:
        """The VOI table (name, mean, sd, ...) of a synthesis with its columns; as it is for a tracer without."""
        tracer = synthesis.tracer.name
        if tracer not in self.calibration.vois:
            return table, {}
        keyed = table.assign(tracer=tracer, voi=table["name"])
        added = add_intervals(self.calibration, keyed, self.level).drop(columns=["tracer", "voi"])
        counts = [voi.n for voi in self.calibration.vois[tracer].values()]
        text = f"end of the {self.level:.0%} split-conformal interval of the measured value"
        more = {
            LEVEL_KEY: self.level,
            "CalibrationSubjects": max(counts),
            "low": {"Description": f"Lower {text}", "Units": "SUVr"},
            "high": {"Description": f"Upper {text}", "Units": "SUVr"},
        }
        added, of_probability = self._add_probability(synthesis, added)
        return added, {**more, **of_probability}

    def _add_probability(self, synthesis: Synthesis, table: pd.DataFrame) -> tuple[pd.DataFrame, Json]:
        rule = synthesis.tracer.positivity
        found = self.calibration.positivity.get(synthesis.tracer.name)
        if rule is None or found is None:
            return table, {}
        rows = table["name"] == rule.composite
        if not rows.any():  # none of its voxels lies on this grid
            return table, {}
        (mean,), (sd,) = table.loc[rows, "mean"], table.loc[rows, "sd"]
        width = found.width(float(sd), len(synthesis.samples), averaged=synthesis.expected is None)
        probability = found.probability(float(mean), width, rule.threshold)
        text = f"Probability that the measured {rule.composite} is above {rule.threshold:g} SUVr"
        return table.assign(**{PROBABILITY: rows.map({True: probability, False: float("nan")})}), {
            "PositivityComposite": rule.composite,
            THRESHOLD_KEY: rule.threshold,
            PROBABILITY: {
                "Description": f"{text}, calibrated on {counted(found.n, 'validation participant')}"
            },
        }


def intervals_for(
    synthesizer: Synthesizer, tracers: Sequence[TracerSpec], sample: SampleConfig, messages: Messages
) -> Intervals | None:
    """What a run's calibration gives for these sampler settings; None, with a warning, where nothing.

    A run that was never calibrated gives none without a warning; which of ``tracers`` have a threshold and no
    probability is said. Raises InputError for a broken calibration.json
    and for one of other weights.
    """
    path = synthesizer.run.calibration
    if not path.is_file():
        _tell_without(tracers, None, synthesizer, messages)
        return None
    known = synthesizer.weights_sha256, synthesizer.run.earlier_weights_sha256()
    calibration = load_calibration(path, *known)
    if calibration.single and sample.count < int(calibration.sampling.get("count", 0)):
        calibration = calibration.of_one_sample()
    other = _unlike(calibration, settings_of(sample))
    if other:
        messages.warn(
            f"The VOI tables have no intervals and no probability of positivity: {path} was made with "
            f"{', '.join(other)}; synthesize with the same."
        )
        return None
    level = calibration.best_level()
    if level is None:
        messages.warn(f"The VOI tables have no intervals: {path} rests on too few validation subjects.")
        return None
    _tell_without(tracers, calibration, synthesizer, messages)
    return Intervals(calibration, level)


def _tell_without(
    tracers: Sequence[TracerSpec],
    calibration: Calibration | None,
    synthesizer: Synthesizer,
    messages: Messages,
) -> None:
    known = {} if calibration is None else calibration.positivity
    lacking = [
        tracer.name for tracer in tracers if tracer.positivity is not None and tracer.name not in known
    ]
    if lacking and synthesizer.caution is None:
        messages.say(
            f"The VOI tables of {', '.join(lacking)} give no probability of positivity, for which "
            f"{synthesizer.run.path} was not calibrated on validation participants."
        )


def _unlike(calibration: Calibration, wanted: Mapping[str, str | int]) -> list[str]:
    """The sampler's settings under which the residuals were others than they will be.

    More samples are as good: their mean lies, on average, no farther from the measured value than that of fewer, so the
    intervals hold. A calibration that says nothing of samples does not depend on them.
    """
    told = []
    for key, made_with in calibration.sampling.items():
        value = wanted.get(key)
        more = (
            key == "count" and not calibration.scaled and isinstance(value, int) and int(made_with) <= value
        )
        if value != made_with and not more:
            least = " or more" if key == "count" and not calibration.scaled else ""
            told.append(f"{key} {made_with}{least} (not {value})")
    return told
