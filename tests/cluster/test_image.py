"""The image, built on a Debian and run as a cluster runs it; needs root, buildah, debootstrap, and some 30 GB."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.sweeps import DATA, FIT

HERE = Path(__file__).parent
TAG = "localhost/defectloc:test"
GIGABYTES = 35
# The user number of the image.
USER = 1000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Build it, unless DEFECTLOC_IMAGE and STORAGE_ROOT name one that is there."""
    missing = [name for name in ("buildah", "debootstrap", "unshare", "chroot") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"the image needs root and Debian's buildah and debootstrap; missing: {missing or 'root'}")
    if named := os.environ.get("DEFECTLOC_IMAGE"):
        yield named
        return
    folder = tmp_path_factory.mktemp("storage")
    if shutil.disk_usage(folder).free < GIGABYTES * 10**9:
        pytest.skip(f"the image needs {GIGABYTES} GB while it is built")
    os.environ["STORAGE_ROOT"] = str(folder)
    build = subprocess.run(
        [HERE / "build_image.sh", TAG],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stdout[-4000:] + build.stderr[-4000:]
    yield TAG
    del os.environ["STORAGE_ROOT"]
    subprocess.run(["umount", folder / "root" / "overlay"], capture_output=True, check=False)
    # Read-only folders below would stop pytest's own cleaning.
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "outputs"
    folder.mkdir()
    os.chown(folder, USER, USER)
    return folder


def run(image, outputs, *command):
    return subprocess.run(
        [HERE / "run_image.sh", image, outputs, *command], capture_output=True, text=True, check=False
    )


def test_trains_and_predicts_without_root_on_a_read_only_root(image, outputs):
    typed = [*DATA, *FIT, "subset=pill", "data.root=outputs/data", "outputs=outputs"]
    trained = run(image, outputs, "defectloc", "train", *typed)
    assert trained.returncode == 0, trained.stderr
    (folder,) = outputs.glob("pill/fold0-*")
    assert (folder / "metrics.json").stat().st_uid == USER
    photographs = next(outputs.glob("data/*/pill/test/crack")).relative_to(outputs)
    predicted = run(
        image,
        outputs,
        *("defectloc", "predict", f"run=outputs/pill/{folder.name}", f"images=outputs/{photographs}"),
        *("output=outputs/predicted", "device=cpu", "threads=1"),
    )
    assert predicted.returncode == 0, predicted.stderr
    table = (outputs / "predicted" / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert len(table) == 1 + 6


def test_finds_its_weights_without_a_network(image, outputs):
    """The VGG16 of the extra `offline` lies in the image."""
    code = (
        "from defectloc.config import ModelConfig; from defectloc.model import weights;"
        "print(weights.build(ModelConfig(), 0)[2])"
    )
    done = run(image, outputs, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "oxford preprocessing" in done.stdout, done.stdout


def test_holds_no_compiler_no_cache_and_nothing_that_can_be_written(image, outputs):
    done = run(
        image,
        outputs,
        *(
            "sh",
            "-c",
            "id -u; for each in cc gcc g++ clang make; do command -v $each; done; find / -xdev -name '*.deb'",
        ),
    )
    assert done.stdout.split() == [str(USER)]
    cached = run(
        image, outputs, "find", "/opt", "/var/cache/apt", "/var/lib/apt/lists", "/home", "/build", "-type", "f"
    )
    assert not [name for name in cached.stdout.split() if "/.cache/" in name or name.startswith(("/var/", "/build/"))]
    written = run(image, outputs, "touch", "/work/outputs/yes", "/tmp/yes", "/opt/no", "/work/no", "/no")
    assert written.stderr.count("Read-only file system") == 3
    assert (outputs / "yes").exists()
