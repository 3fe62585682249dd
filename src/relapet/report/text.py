"""How numbers and tables are written for a reader."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from relapet.messages import plain_text

_MARKS = str.maketrans({"<": "&lt;", "|": "\\|", "[": "\\[", "`": "'"})


def safe(content: Any) -> Any:
    """Words for Markdown, those within mappings and lists too: no tag, link, heading or line that they bring stays."""
    if isinstance(content, str):
        text = plain_text(content).translate(_MARKS)
        return f"\\{text}" if text.startswith(("#", ">", "-", "+", "*")) else text
    if isinstance(content, Mapping):
        return {safe(key): safe(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(safe(value) for value in content)
    return content


def number(value: float) -> str:
    """Three significant digits, or two decimals from 10 on; n/a for NaN."""
    if math.isnan(value):
        return "n/a"
    if abs(value) < 1e-9:
        return "0"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.2f}"


def p_value(value: float) -> str:
    """A p value with its sign of equality."""
    if math.isnan(value):
        return "p n/a"
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def with_interval(value: float, low: float, high: float, sign: str = "") -> str:
    """An estimate with its interval in brackets, where there is one; ``sign`` goes before a positive estimate."""
    text = f"{sign if value > 0 else ''}{number(value)}"
    return text if math.isnan(low) else f"{text} [{number(low)}, {number(high)}]"


def cell(interval: Mapping[str, Any], sign: str = "") -> str:
    """`with_interval` of the keys estimate, low and high."""
    return with_interval(interval["estimate"], interval["low"], interval["high"], sign)


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table and an empty one."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]
