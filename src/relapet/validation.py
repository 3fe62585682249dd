"""Validation in training: scores of few-step samples, and a picture of one subject a tracer."""

from __future__ import annotations

from dataclasses import dataclass

from relapet.data.dataset import Pair
from relapet.data.volumes import BACKGROUND, model_to_suvr
from relapet.report.panels import subject_panel
from relapet.report.style import save_figure
from relapet.synthesis.config import SampleConfig
from relapet.synthesis.validate import mean_absolute_errors, sample_pairs
from relapet.training.train import ValidationRound
from relapet.types import Volume


@dataclass(frozen=True)
class Validation:
    """Scores a model in training and draws what it gives into the run's figures."""

    sample: SampleConfig
    most_steps: int
    """Network calls a sample, at most."""

    def __call__(self, current: ValidationRound) -> dict[str, float]:
        """Mean absolute error of each tracer, SUVr; writes ``figures/trc-<label>_step-<step>.png``."""
        sample = self.sample.model_copy(update={"steps": min(self.sample.steps, self.most_steps)})
        synthetic = sample_pairs(current.method, current.pairs, sample, current.device)
        drawn: set[str] = set()
        for pair, volume in zip(current.pairs, synthetic, strict=True):
            if pair.tracer.name not in drawn:
                drawn.add(pair.tracer.name)
                _draw(current, pair, volume)
        return mean_absolute_errors(current.pairs, synthetic)


def _draw(current: ValidationRound, pair: Pair, synthetic: Volume) -> None:
    # Background is 0 to the panel; an input that the model does not see is left out, and so is the template.
    t1w, flair = (channel + 1 if (channel > BACKGROUND).any() else None for channel in pair.condition[:2])
    figure = subject_panel(
        t1w,
        flair,
        model_to_suvr(pair.pet, pair.window),
        synthetic,
        pair.tracer,
        current.grid.affine,
        f"{pair.name} in validation, step {current.step}",
    )
    name = f"trc-{pair.tracer.label}_step-{current.step:09d}.png"
    save_figure(figure, current.run.figures / name)
