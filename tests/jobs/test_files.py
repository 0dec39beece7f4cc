"""The files of jobs/: the tools for their formats accept them, and the program has their flags."""

import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from alexnet_jax.modes import OF_A_CLUSTER
from tests.conftest import ROOT

JOBS = ROOT / "jobs"


@pytest.mark.parametrize("name", ["jobs/slurm.sbatch", "jobs/tpu_vm.sh", "tests/jobs/slurm.sh"])
def test_shell_scripts_pass_shellcheck(name: str) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, ROOT / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifest_agrees_with_the_published_schema() -> None:
    documents = list(yaml.safe_load_all((JOBS / "kubernetes.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["Service", "Job", "Job"]
    for document in documents:
        kubernetes_validate.validate(document, "1.37", strict=True)
    documents[2]["spec"]["complections"] = 4
    with pytest.raises(kubernetes_validate.ValidationError, match="complections"):
        kubernetes_validate.validate(documents[2], "1.37", strict=True)


def test_the_pods_are_as_many_as_the_processes_and_find_the_first() -> None:
    service, _, job = yaml.safe_load_all((JOBS / "kubernetes.yaml").read_text())
    spec, name = job["spec"], job["metadata"]["name"]
    command = spec["template"]["spec"]["containers"][0]["command"]
    assert spec["completionMode"] == "Indexed"
    assert f"--processes={spec['completions']}" in command and spec["parallelism"] == spec["completions"]
    subdomain, port = spec["template"]["spec"]["subdomain"], service["spec"]["ports"][0]["port"]
    assert subdomain == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert f"--coordinator={name}-0.{subdomain}:{port}" in command
    assert service["spec"]["selector"] == {"job-name": name}


def test_a_status_of_75_restarts_and_preparing_is_its_own_step() -> None:
    for name in ("slurm.sbatch", "tpu_vm.sh", "kubernetes.yaml"):
        text = (JOBS / name).read_text()
        assert "75" in text, name
        modes = set(re.findall(r"--mode=(\w+)", text))
        assert modes == {"prepare"} and modes <= set(OF_A_CLUSTER), name
        assert "What it costs" in text, name
