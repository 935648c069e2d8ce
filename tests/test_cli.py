"""The command line: paths of any name, error sentences, exit codes, sweeps with a failing job."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from defectloc import cli, config, usage
from defectloc.arguments import flags_first, quote_paths
from defectloc.errors import DefectlocError
from tests.conftest import CAM, SMALL, SYNTHETIC, two_folders

HARD_NAME = "a b,c=[d] {e} 'f' \"g\" (h) \\ детали é #%&;!:"

# `${...}` stays an interpolation, and a value that is in quotes as a whole stands for what is inside.
NAMES = st.text(st.characters(blacklist_categories=["Cc", "Cs"], blacklist_characters="$"), min_size=1).filter(
    lambda name: name not in ("null", "???") and name[0] not in "~'\""
)


def parsed(argument: str) -> object:
    (quoted,) = quote_paths([argument])
    return OverridesParser.create().parse_override(quoted).value()


@given(NAMES)
@example(HARD_NAME)
@example("C:\\parts\\")
@example("\\'")
@example("it's")
@example("1e3")
@example(" leading and trailing ")
@settings(max_examples=300, deadline=None, derandomize=True)
def test_path_of_any_name_reaches_the_program_unchanged(name):
    assert parsed(f"data.root={name}") == name


@given(NAMES)
@example(HARD_NAME)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_quoted_path_survives_a_second_parse_as_in_a_sweep(name):
    """Hydra's sweeper writes each override as text again and parses that."""
    override = OverridesParser.create().parse_override(quote_paths([f"data.root={name}"])[0])
    again = OverridesParser.create().parse_override(f"data.root={override.get_value_element_as_str()}")
    assert again.value() == name


def test_quoted_values_and_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parsed("run=~/a b") == "/home/somebody/a b"
    assert parsed("run='~/a b'") == "/home/somebody/a b"
    assert parsed('run="it\'s"') == "it's"
    assert parsed("+run=a,b") == "a,b"
    assert parsed("data.root=null") is None
    assert parsed("data.group=^(part[0-9]+)_") == "^(part[0-9]+)_"
    assert quote_paths(["fold=0,1", "-m", "subset=~x"]) == ["fold=0,1", "-m", "subset=~x"]


def test_interpolation_in_a_path_keeps_its_meaning():
    config.register()
    with initialize_config_dir(str(config.directory()), version_base="1.3"):
        composed = compose("train", quote_paths(["data=folder", "subset=part", "data.root=photos of ${subset}"]))
    assert composed.data.root == "photos of part"


def test_fit_in_folders_of_hard_names(command, tmp_path):
    """Data and outputs lie where spaces, quotes, brackets, commas and non-Latin letters are part of the path."""
    root = two_folders(tmp_path / HARD_NAME / "photos", 10)
    outputs = tmp_path / f"out {HARD_NAME}"
    outcome = command("train", "data=folder", "subset=part", f"data.root={root}", f"outputs={outputs}", *SMALL)
    assert outcome.code == 0, outcome.err
    (metrics,) = outputs.glob("part/fold0-*/metrics.json")
    assert command("localize", f"run={metrics.parent}", *CAM, "localization.threshold=0.7").code == 0
    assert not (tmp_path / "outputs").exists()


def test_unknown_command_suggests(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["defectloc", "trian"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert "Did you mean train?" in capsys.readouterr().err


def test_every_command_can_be_imported_and_has_a_configuration():
    for name in usage.COMMANDS:
        assert callable(import_module(f"defectloc.{name}").main)
        assert name in config.SETTINGS
        assert (config.directory() / f"{name}.yaml").is_file()


def test_version_and_help(monkeypatch, capsys):
    for argument, word in (("--version", "defectloc 0."), ("--help", "train")):
        monkeypatch.setattr(sys, "argv", ["defectloc", argument])
        cli.main()
        assert word in capsys.readouterr().out


def test_two_ways_to_start_are_one(tmp_path):
    """`defectloc train` and `python -m defectloc.train` compose the same configuration."""
    script = Path(sys.executable).parent / "defectloc"
    arguments = ["subset=pill", "fold=3", "--cfg", "job"]
    texts = [
        subprocess.run([*start, *arguments], capture_output=True, text=True, check=True).stdout
        for start in ([str(script), "train"], [sys.executable, "-m", "defectloc.train"])
    ]
    assert texts[0] == texts[1]
    assert "fold: 3" in texts[0]


@pytest.mark.slow
def test_traceback_on_request(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "defectloc.train", "subset=pill", "data.root=nowhere"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HYDRA_FULL_ERROR": "1"},
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "DefectlocError: data.root=nowhere" in done.stderr


def test_unknown_key_and_wrong_type(command):
    assert "Did you mean training.epochs?" in command("train", *SYNTHETIC, "training.epoch=3").sentence
    of_another = command("localize", "run=x", "threads=1").sentence
    assert of_another.endswith("'threads' is not a key of this command (--help lists them).")
    assert "Did you mean training.epochs?" in command("train", *SYNTHETIC, "+training.epoch=3").sentence
    assert "fold=two: Value 'two'" in command("train", *SYNTHETIC, "fold=two").sentence
    assert "choose one of" in command("train", *SYNTHETIC, "model=vgg19").sentence
    assert "not of the form key=value" in command("train", *SYNTHETIC, "fold").sentence
    assert "'data.image_size=[' cannot be parsed" in command("train", *SYNTHETIC, "data.image_size=[").sentence
    assert "group" in command("train", *SYNTHETIC, "data=null").sentence


def test_habits_of_other_command_lines_are_named(command):
    assert "add -m to run one after the other" in command("train", "subset=pill", "fold=0,1").sentence
    assert "written without dashes, data.good=photos" in command("train", "--data.good=photos").sentence
    assert "experiment takes the name of one option" in command("train", *SYNTHETIC, "experiment=[1,1]").sentence
    assert "without spaces around the =" in command("train", "subset=pill", "fold").sentence


def test_failing_jobs_of_a_sweep_are_listed_and_the_others_go_on(command):
    """Also where the output folder has a name that needs quotes."""
    outputs = Path("out, 'puts'")
    outcome = command("train", "-m", *SYNTHETIC, "fold=7,0,8", f"outputs={outputs}")
    assert outcome.code == 2
    assert "2 of the jobs failed" in outcome.err
    for fold in (7, 8):
        assert f"fold={fold} is out of range" in outcome.err.partition("jobs failed")[2]
    assert [p.parent.name[:5] for p in outputs.glob("pill/*/metrics.json")] == ["fold0"]
    notes = sorted(p.read_text(encoding="utf-8") for p in outputs.glob(".sweeps/*/error.txt"))
    assert len(notes) == 2
    assert "fold=7 is out of range" in "".join(notes)


def test_sweep_removes_an_error_that_is_gone(command):
    arguments = ["train", "-m", "data=folder", "subset=part", "data.root=photos", *SMALL]
    assert command(*arguments).code == 2
    assert len(list(Path("outputs").glob(".sweeps/*/error.txt"))) == 1
    two_folders(Path("photos"))
    assert command(*arguments).code == 0
    assert not list(Path("outputs").glob(".sweeps/*/error.txt"))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["subset=pill", "-m", "fold=0,1"], ["-m", "subset=pill", "fold=0,1"]),
        (["fold=0", "--cfg", "job", "subset=pill", "-m"], ["--cfg", "job", "-m", "fold=0", "subset=pill"]),
        (["-m", "seed=-1"], ["-m", "seed=-1"]),
    ],
)
def test_flags_may_stand_anywhere(typed, expected):
    assert flags_first(typed) == expected


def test_help_names_every_key_of_the_chosen_source_only(command):
    shown = command("train", "--help", "data=elpv").out
    assert "data.min_confidence" in shown
    assert "data.good" not in shown
    assert "cam | memory | fusion" in shown
    for name, schema in config.SETTINGS.items():
        for key, each in config.leaves(schema).items():
            assert each.metadata.get("help"), f"{name}: {key} has no help text"


@pytest.mark.parametrize("name", ["tune", "benchmark"])
@pytest.mark.parametrize("typed", ["experiment=case_study", "logger=csv", "logger.name=csv", "figures=true"])
def test_what_a_command_would_ignore_is_neither_shown_nor_taken(command, name, typed):
    key, _, _ = typed.partition("=")
    shown = command(name, "--help").out
    assert not re.search(rf"^ *{re.escape(key)}\b", shown, re.MULTILINE)
    assert f"'{key}' is not a key of this command" in command(name, "subset=pill", typed).sentence


def test_help_names_the_groups_that_the_command_has(command):
    for name in config.SETTINGS:
        text = (config.directory() / f"{name}.yaml").read_text(encoding="utf-8")
        groups = {next(iter(each)) for each in yaml.safe_load(text)["defaults"] if isinstance(each, dict)}
        shown = re.findall(r"^  (\w+)=", command(name, "--help").out, re.MULTILINE)
        assert set(shown) == {group for group in groups if not group.startswith("override")}, name


def test_an_option_of_another_command_is_refused(command):
    assert "is for 'explain' only" in command("train", *SYNTHETIC, "model=torchvision").sentence
    assert "model=vgg16 is not an option" in command("explain", "model=vgg16").sentence


def test_paths_and_numbers_beyond_all_bounds_end_in_a_sentence(command, tmp_path):
    long = "x" * 5000
    (tmp_path / "empty").mkdir()
    assert "too long" in command("localize", "run=empty/" + long).sentence
    outcome = command("localize", "run=empty", f"decision.max_escape_rate={'9' * 400}")
    assert outcome.sentence == "the value of decision.max_escape_rate is too large for a number."


def test_an_error_of_several_lines_becomes_one():
    assert cli.sentence(DefectlocError("it failed: first\n  second\n")) == "it failed: first second"
