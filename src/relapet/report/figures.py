"""Every figure of a report; each takes tables or arrays and gives a matplotlib Figure."""

from __future__ import annotations

from relapet.report.panels import PanelView, subject_panel
from relapet.report.style import alternative_text, save_figure

__all__ = ["PanelView", "alternative_text", "save_figure", "subject_panel"]
