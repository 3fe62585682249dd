"""What users type: several values, short options after them, hyphens and underscores, quiet and debug anywhere."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from relapet import api
from relapet.cli import app, main
from relapet.cli.command import exit_for_failures, spread
from relapet.cli.words import option_words
from relapet.info import TOPICS
from relapet.synthesis.synthesize import Outcome

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def parsed(name: str, *arguments: str) -> dict[str, Any]:
    return dict(COMMANDS[name].make_context(name, list(arguments)).params)


def test_several_values_end_at_the_next_option_long_or_short() -> None:
    bids = ("preprocess", "a", "b", "participant")
    given = parsed(*bids, "--participant-label", "003", "005", "-q")
    assert given["participant_label"] == ["003", "005"]
    assert given["quiet"] is True
    given = parsed(*bids, "--participant_label", "003", "--session_label", "x", "y", "--n_procs", "2")
    assert (given["participant_label"], given["session_label"], given["n_procs"]) == (["003"], ["x", "y"], 2)
    given = parsed(*bids, "--participant-label=003", "--participant-label", "005")
    assert given["participant_label"] == ["003", "005"]


def test_help_after_several_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthesize", "a", "b", "participant", "--model", "c", "--tracer", "pib", "-h"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_every_option_that_may_be_repeated_takes_several_values() -> None:
    several = {
        (name, p.name, p.opts[0])
        for name, c in COMMANDS.items()
        for p in c.params
        if getattr(p, "multiple", False)
    }
    assert {option for _, _, option in several} >= {"--tracer", "--set", "--compare", "--participant-label"}
    for name, parameter, option in several:
        context = COMMANDS[name].make_context(name, [option, "1", "2"], resilient_parsing=True)
        assert [str(value) for value in context.params[parameter]] == ["1", "2"]


def test_nothing_is_rewritten_after_two_hyphens() -> None:
    assert spread(["--a_b", "x", "y", "--", "--c_d", "z"], {"--a-b"}) == [
        *("--a-b", "x", "--a-b", "y"),
        *("--", "--c_d", "z"),
    ]


def test_the_shared_options_are_declared_once() -> None:
    for name, command in COMMANDS.items():
        assert {"quiet", "debug", "version"} <= {p.name for p in command.params}, name
    folder = Path(inspect.getfile(app.registered_commands[0].callback)).parent  # type: ignore[arg-type]
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    for option in ('"--quiet"', '"--version"', "Show a traceback on errors"):
        assert text.count(option) == 1


def test_info_obeys_quiet_before_and_after_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "presets"]) == 0
    assert "demo" in capsys.readouterr().out
    for call in (
        ["info", "presets", "--quiet"],
        ["-q", "info", "presets"],
        ["info", "presets", "demo", "-q"],
    ):
        assert main(call) == 0
        assert capsys.readouterr() == ("", "")


def test_no_setting_s_name_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    from relapet.cli.command import as_set
    from relapet.config import describe, load_config

    assert main(["info", "presets", "demo"]) == 0
    said = capsys.readouterr().out
    assert "…" not in said
    for key, value, meaning in describe(load_config("demo")):
        assert f"{key} " in said
        assert f"{key} {as_set(value)} " in " ".join(said.split())
        assert meaning in said


def test_what_is_shown_of_a_setting_can_be_given_to_set() -> None:
    from relapet.cli.command import as_set
    from relapet.config import describe, load_config

    given = ["data.tracers=[tau,pib]", "train.seconds=null", "data.grid=8mm"]
    config = load_config("fast", settings=given)
    shown = [f"{key}={as_set(value)}" for key, value, _ in describe(config) if not isinstance(value, dict)]
    assert set(given) < set(shown)
    assert load_config("fast", settings=shown) == config


def test_a_tracer_is_shown_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "tracers", "flortaucipir"]) == 0
    said = capsys.readouterr().out
    assert not any(sign in said for sign in ("{'", "('", "None"))
    assert "AV-1451, [18F]AV1451" in said


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["train", "--foo", "a", "b"], "No such option: --foo"),
        (["train"], "Missing argument"),
        (["simulate", "out", "--subjects", "0"], "--subjects is '0'; give 1 or more."),
        (["simulate", ""], "An argument is empty"),
        (["simulate", "out", "--subjects", "[x]"], "--subjects is '[x]'; give a whole number."),
        (["nothing"], "nothing"),
        (["evalute"], "Did you mean 'evaluate'? See relapet --help."),
        (
            ["preprocess", ".", "out", "participant", "--fwhm", "8"],
            "--fwhm needs the scanner's own resolution",
        ),
        (["preprocess", ".", "out", "participant", "--fwhm", "nan", "--scanner-fwhm", "6"], "--fwhm is nan"),
        (["synthesize", ".", "out", "participant", "--model", ".", "--tracer", "tau", "AV1451"], "tau twice"),
        (
            ["synthesize", ".", "out", "participant", "--model", ".", "--sampler", "huen"],
            "--sampler is 'huen'; give one of 'ddim', 'ddpm', 'flow', 'dpmpp' or 'heun' (did you mean 'heun'?).",
        ),
        (
            ["synthesize", ".", "out", "participant", "--model", ".", "--sampler", "flow", "--eta", "0.5"],
            "eta is 0.5, which is ddim's alone; leave it at 0 with flow.",
        ),
        (
            ["synthesize", ".", "out", "participant", "--model", ".", "--device", "gpu"],
            "--device is 'gpu'; give cpu",
        ),
        (["info", "samplers", "dpmp"], "ddim, ddpm, flow, dpmpp, heun (did you mean 'dpmpp'?)."),
        (["simulate", "out", "--missing-rate", "1"], "--missing-rate is 1.0; give less than 1"),
    ],
)
def test_a_call_that_cannot_be_used_is_told_in_one_sentence_in_the_words_of_the_command_line(
    call: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(call) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("relapet: error: ")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_parameters_become_options() -> None:
    assert option_words("`n_procs` is 0.") == "--n-procs is 0."
    assert option_words("`fwhm_mm` and `set` and `tracers`") == "--fwhm and --set and --tracer"
    assert option_words("There is no setting `stps`") == "There is no setting stps"


def test_a_reason_that_names_its_visit_is_not_given_the_name_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed = {
        "sub-04": "sub-04: the FLAIR lies elsewhere.",
        "sub-05": "sub-05 holds no T1w.",
        "sub-06": "use a smaller `n_procs`.",
    }
    with pytest.raises(typer.Exit):
        exit_for_failures(failed)
    assert capsys.readouterr().err.splitlines() == [
        "relapet: 3 failed:",
        "  sub-04: the FLAIR lies elsewhere.",
        "  sub-05 holds no T1w.",
        "  sub-06: use a smaller --n-procs.",
    ]


def test_one_visit_is_not_one_visits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "synthesize", lambda *given: Outcome(("sub-01",), {}))
    assert main(["synthesize", str(tmp_path), "out", "participant", "--model", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 of 1 visit written to out.\n"


def test_ctrl_c_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "import_layout", interrupted)
    assert main(["import-layout", str(tmp_path), "out", "--units", "SUVR"]) == 130
    assert "stopped by Ctrl-C" in capsys.readouterr().err


CHEAP = [
    ["train", "nowhere", "run", "--preset", "demo"],
    ["train", ".", "run", "--preset", "none"],
    ["train", ".", "run", "--preset", "demo", "--set", "train.steps=[1"],
    ["synthesize", "nowhere", "out", "participant", "--model", "."],
    ["synthesize", ".", "out", "participant", "--model", "nowhere"],
    ["synthesize", ".", "out", "participant", "--model", ".", "--tracer", "none"],
    ["synthesize", ".", "out", "participant", "--model", ".", "--sampler", "none"],
    ["synthesize", ".", "out", "participant", "--model", ".", "--device", "none"],
    ["preprocess", "nowhere", "out", "participant"],
    ["evaluate", ".", "nowhere", "out"],
    ["evaluate", ".", ".", "out", "--phenotype", "nowhere.tsv"],
    ["import-layout", "nowhere", "out", "--units", "SUVR"],
    ["import-weights", "nowhere", "out"],
    ["simulate", "out", "--grid", "7mm"],
    ["info", "presets", "none"],
]


@pytest.mark.parametrize("call", CHEAP, ids=lambda call: " ".join(call))
def test_a_wrong_path_is_told_before_torch_or_any_other_heavy_package_is_imported(
    call: list[str], tmp_path: Path
) -> None:
    """So that the answer comes within a second, whatever the machine."""
    code = (
        "import sys, time\n"
        "started = time.process_time()\n"
        "from relapet.cli import main\n"
        f"assert main({call!r}) == 2\n"
        "heavy = {'torch', 'monai', 'pandas', 'scipy', 'nibabel', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy), time.process_time() - started < 3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[] True", done.stderr


@pytest.mark.parametrize(
    ("command", "parameter", "names"),
    [
        ("preprocess", "level", {"participant"}),
        ("preprocess", "grid", {"1mm", "3mm"}),
        ("simulate", "grid", {"1mm", "3mm"}),
        ("synthesize", "level", {"participant"}),
        ("synthesize", "model", {"simulated"}),
        ("synthesize", "output_space", {"MNI", "native"}),
        ("synthesize", "tracer", {"pib", "tau"}),
        ("info", "topic", set(TOPICS)),
        ("train", "preset", {"fast", "linear"}),
    ],
)
def test_words_that_are_known_are_completed(command: str, parameter: str, names: set[str]) -> None:
    given = next(p for p in COMMANDS[command].params if p.name == parameter)
    context = COMMANDS[command].make_context(command, [], resilient_parsing=True)
    assert names <= {item.value for item in given.shell_complete(context, "")}
    first = min(names)
    assert [item.value for item in given.shell_complete(context, first)] == [first]


@pytest.mark.parametrize("command", ["preprocess", "synthesize"])
def test_a_forgotten_level_is_told_as_the_word_to_type(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "a", "b"]) == 2
    assert "Missing argument LEVEL: the word participant" in capsys.readouterr().err
