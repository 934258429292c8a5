import json
import subprocess
import sys

import jax

import wne_jax
from wne_jax.evaluation.origin import footer, provenance, write_json
from wne_jax.training import TrainConfig


def test_provenance_has_every_entry(tmp_path):
    source = provenance(TrainConfig(seed=5))
    assert source["config"]["seed"] == 5
    assert source["device"].startswith(jax.devices()[0].platform)
    assert source["versions"]["jax"] == jax.__version__
    assert source["versions"]["wne-jax"] == wne_jax.__version__
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        assert source["revision"] == "unknown"
    else:
        assert source["revision"].startswith(head) or "-g" in source["revision"]
    write_json(source, tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads(json.dumps(source))
    line = footer(source)
    assert "\n" not in line and source["device"] in line and source["revision"] in line


def test_the_package_exports_the_function_for_any_import_order():
    code = (
        "import wne_jax.evaluation.origin, wne_jax.evaluation as e; print(callable(e.provenance))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
