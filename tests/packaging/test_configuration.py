"""The real configuration: every option of every group composes, and what does not fit is refused."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from defectloc import checks, cli, config, usage
from defectloc.errors import DefectlocError

CASE_STUDY = {
    "data": {"image_size": [224, 224], "validation": 0.0},
    "model": {"name": "vgg16", "weights": "imagenet", "trainable_from": "conv5_1"},
    "training": {
        "epochs": 10,
        "batch_size": 10,
        "learning_rate": 1e-4,
        "class_weights": [1.0, 3.0],
        "target_train_accuracy": 0.98,
    },
    "augmentation": {"name": "none", "transforms": []},
    "localization": {
        "map": "cam",
        "normalization": "minmax",
        "threshold_from": "fixed",
        "threshold": 0.8,
        "boxes": "single",
        "min_peak": None,
    },
    "decision": {"score": "class", "threshold_from": "fixed", "threshold": 0.5, "calibrate": False},
}


def composed(command, *overrides, directory=None):
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(directory or config.directory())):
        whole = compose(command, list(overrides))
    # What a user has to type, since it has no default.
    for key in OmegaConf.missing_keys(whole):
        OmegaConf.update(whole, key, "x")
    return checks.typed(whole)


def groups_of(command):
    defaults = yaml.safe_load((config.directory() / f"{command}.yaml").read_text(encoding="utf-8"))["defaults"]
    names = [name for entry in defaults if isinstance(entry, dict) for name in entry]
    return [name for name in names if not name.startswith("override ")]


def options():
    for command in config.SETTINGS:
        yield command, None
        for group in groups_of(command):
            for path in sorted((config.directory() / group).glob("*.yaml")):
                # `explain` takes published networks, the others those to be fitted.
                if group == "model" and (path.stem == "torchvision") != (command == "explain"):
                    continue
                # `benchmark` measures the fit that this leaves out.
                if command == "benchmark" and (group, path.stem) == ("training", "none"):
                    continue
                yield command, f"{group}={path.stem}"


@pytest.mark.parametrize(("command", "option"), list(options()))
def test_every_option_composes(command, option):
    settings = composed(command, *([option] if option else []))
    assert type(settings) is config.SETTINGS[command]


def test_every_command_has_a_configuration_and_every_group_a_command():
    assert set(config.SETTINGS) == set(usage.COMMANDS)
    # `hydra` holds the launchers, which all commands have.
    groups = {path.name for path in config.directory().iterdir() if path.is_dir() and path.name != "hydra"}
    assert groups == {group for command in config.SETTINGS for group in groups_of(command)}


def assert_case_study(settings):
    for group, values in CASE_STUDY.items():
        found = {key: getattr(getattr(settings, group), key) for key in values}
        assert found == values, group


def test_the_case_study_has_its_published_values():
    assert_case_study(composed("train", "experiment=case_study"))


def test_the_case_study_stays_whatever_the_defaults_become(tmp_path):
    directory = tmp_path / "conf"
    shutil.copytree(config.directory(), directory)
    others = {
        "model/resnet50": {"name": "resnet50", "weights": "none", "trainable_from": "layer4"},
        "data/mvtec": {"name": "mvtec", "image_size": 320, "validation": 0.3},
        "training/default": {
            "epochs": 3,
            "batch_size": 4,
            "learning_rate": 1.0,
            "class_weights": "balanced",
            "target_train_accuracy": 2.0,
        },
        "localization/fusion": {
            "normalization": "none",
            "threshold_from": "validation",
            "threshold": 0.1,
            "boxes": "components",
        },
    }
    for name, content in others.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    train = directory / "train.yaml"
    text = train.read_text(encoding="utf-8")
    text = text.replace("- model: vgg16", "- model: resnet50").replace("- augmentation: none", "- augmentation: flips")
    train.write_text(text, encoding="utf-8")
    assert composed("train", directory=directory).model.name == "resnet50"
    assert_case_study(composed("train", "experiment=case_study", directory=directory))


def test_what_the_user_types_comes_before_the_experiment():
    assert composed("train", "experiment=case_study", "training.epochs=2").training.epochs == 2


def test_the_root_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("MVTEC_ROOT", "/data/mvtec ad")
    assert composed("train").data.root == "/data/mvtec ad"
    monkeypatch.delenv("MVTEC_ROOT")
    assert composed("train").data.root == "data/mvtec_anomaly_detection"


def refused(monkeypatch, capsys, *overrides):
    """Run the command line with a task that must not be reached; give what it says."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", ["defectloc train", *overrides])
    with pytest.raises(SystemExit) as stopped:
        cli.run_command("train", lambda settings: pytest.fail("the settings were taken"))
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    return said


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("epochs=3", "epochs"),
        ("training.epoch=3", "training.epochs"),
        ("training.epochs=many", "training.epochs"),
        ("features.cache=perhaps", "features.cache"),
        ("fold=first", "fold"),
        ("+note=1", "note"),
        ("data=nosuch", "csv, elpv, folder, mvtec, synthetic"),
        ("training.class_weights=[1,2,3]", "training.class_weights"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused_by_name(monkeypatch, capsys, tmp_path, override, says):
    monkeypatch.chdir(tmp_path)
    assert says in refused(monkeypatch, capsys, "subset=pill", override)
    assert not list(Path().iterdir())


def test_a_missing_key_is_named(monkeypatch, capsys):
    assert "subset" in refused(monkeypatch, capsys)


def test_the_map_of_the_memory_bank_needs_no_validation_split_where_all_is_fixed():
    fixed = ["decision.score=class", "decision.threshold_from=fixed", "decision.calibrate=false"]
    found = composed("train", "data.validation=0", "localization.map=memory", "localization.normalization=none", *fixed)
    assert found.localization.upsampling == "guided"


@pytest.mark.parametrize("key", ["map=cam", "upsampling=guided", "threshold_from=fixed", "quantile=0.9"])
@pytest.mark.parametrize("command", ["evaluate", "explain"])
def test_commands_without_a_validation_split_have_no_key_for_one(command, key):
    with pytest.raises(ConfigCompositionException, match=f"localization.{key.partition('=')[0]}"):
        composed(command, f"localization.{key}")


def test_nothing_is_chosen_without_a_validation_part():
    with pytest.raises(DefectlocError, match="validation"):
        composed("train", "experiment=case_study", "localization.threshold_from=validation")
