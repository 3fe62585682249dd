"""Validation in training: scores of few-step samples, and a picture of one subject a tracer."""

from __future__ import annotations

from dataclasses import dataclass

from relapet.data.items import TrainingItem
from relapet.data.volumes import BACKGROUND, model_to_suvr
from relapet.report.panels import subject_panel
from relapet.report.style import save_figure
from relapet.synthesis.sample_config import SampleConfig
from relapet.synthesis.validate import mean_absolute_errors, sample_items
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
        synthetic = sample_items(current.method, current.items, sample, current.device)
        drawn: set[str] = set()
        for item, volumes in zip(current.items, synthetic, strict=True):
            for k, tracer in enumerate(item.tracers):
                if item.present[k] and tracer.name not in drawn:
                    drawn.add(tracer.name)
                    _draw(current, item, k, volumes[k])
        return mean_absolute_errors(current.items, synthetic)


def _draw(current: ValidationRound, item: TrainingItem, k: int, synthetic: Volume) -> None:
    # Background is 0 to the panel; an input that the model does not see is left out.
    t1w, flair = (channel + 1 if (channel > BACKGROUND).any() else None for channel in item.mri)
    figure = subject_panel(
        t1w,
        flair,
        model_to_suvr(item.pet[k], item.windows[k]),
        synthetic,
        item.tracers[k],
        current.grid.affine,
        f"{item.name} in validation, step {current.step}",
    )
    name = f"tracer-{item.tracers[k].name}_step-{current.step:09d}.png"
    save_figure(figure, current.run.figures / name)
