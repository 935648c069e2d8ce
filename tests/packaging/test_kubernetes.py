"""The Job of docs/kubernetes.yaml: against the schema of the API, the image, and the command that it starts."""

import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from defectloc import checks, config
from defectloc.signals import REQUEUE

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def job():
    return yaml.safe_load((ROOT / "docs" / "kubernetes.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def container(job):
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return only


def validate(content):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    return kubernetes_validate.validate(content, kubernetes_validate.latest_version(), strict=True)


def test_has_the_form_of_the_api(job):
    validate(job)


def test_what_the_api_does_not_know_is_refused(job):
    job["spec"]["podFailurePolicies"] = []
    with pytest.raises(Exception, match="podFailurePolicies"):
        validate(job)


def test_the_code_of_a_stop_is_ignored_and_that_of_an_error_fails_its_fold(job, container):
    spec = job["spec"]
    rules = {tuple(rule["onExitCodes"]["values"]): rule for rule in spec["podFailurePolicy"]["rules"][1:]}
    assert rules[REQUEUE,]["action"] == "Ignore"
    assert rules[2,]["action"] == "FailIndex"
    assert {rule["onExitCodes"]["containerName"] for rule in rules.values()} == {container["name"]}
    # The API asks for these two of a Job with such rules; the schema does not hold it.
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["backoffLimitPerIndex"] >= 1


def test_each_index_is_a_fold_of_a_command_that_composes(job, container):
    command, *overrides = container["args"]
    config.register()
    for index in range(job["spec"]["completions"]):
        typed = [override.replace("$(FOLD)", str(index)) for override in overrides]
        with initialize_config_dir(version_base="1.3", config_dir=str(config.directory())):
            settings = checks.typed(compose(command, typed))
        assert settings.fold == index
    assert settings.n_folds == job["spec"]["completions"]
    assert str(settings.threads) == container["resources"]["requests"]["cpu"]


def test_user_and_folders_are_those_of_the_image(job, container):
    pod = job["spec"]["template"]["spec"]
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user
    assert [int(user[1]), int(user[2])] == [pod["securityContext"][key] for key in ("runAsUser", "runAsGroup")]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(re.findall(r'"(/work/\w+)"', DOCKERFILE)) <= mounted
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    # The only other place that anything is written to.
    assert "/tmp" in mounted
    assert container["securityContext"]["readOnlyRootFilesystem"]
