"""A newcomer's file of networks: trained, saved, loaded, checked and applied by the commands, in its folder.

Its comparison with the wrapped network, `python -m experiments.mismatch`, is in the tests of the experiments.
"""

import sys

import numpy as np
import pytest
from PIL import Image

from wne_jax.cli import main as commands
from wne_jax.inference.denoiser import Denoiser
from wne_jax.weights import load_model

pytestmark = pytest.mark.usefixtures("standard_promotion")

NETS = """
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx


class InLinen(nn.Module):
    features: int = 4

    @nn.compact
    def __call__(self, y, train: bool = True):
        h = nn.BatchNorm(use_running_average=not train)(nn.Conv(self.features, (3, 3))(y))
        return y - nn.Conv(y.shape[-1], (3, 3))(nn.relu(h))


class InNNX(nnx.Module):
    def __init__(self, width=4, *, rngs):
        self.first = nnx.Conv(1, width, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Conv(width, 1, (3, 3), rngs=rngs)

    def __call__(self, y):
        return y - self.last(self.drop(nnx.relu(self.norm(self.first(y)))))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nothing but `nets.py` and photographs; where the commands are typed."""
    root = tmp_path_factory.mktemp("newcomer")
    (root / "newcomers_nets.py").write_text(NETS)
    (root / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20)).astype(np.uint8)
    Image.fromarray(pixels).save(root / "photos/one.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        patch.chdir(root)
        yield root
        sys.modules.pop("newcomers_nets", None)


@pytest.mark.parametrize("name", ["InLinen", "InNNX"])
def test_the_commands_take_it_from_training_to_an_image(folder, name, capsys):
    def type_in(line):
        code = commands.main(line.split())
        return code, capsys.readouterr()

    train = (
        f"train --data folder:photos -o {name} --backbone newcomers_nets:{name} "
        "--steps 2 --patch 12 --batch 2"
    )
    code, printed = type_in(train)
    assert code == 0 and f"trained: {name}" in printed.out, printed.err
    use = f"--weights {name} --allow-imports"
    code, printed = type_in(f"check {use} --size 12")
    assert code == 0 and "measured normalization: kept" in printed.out, printed.err
    code, printed = type_in(f"denoise {use} photos/one.png -o {name}.png")
    assert code == 0, printed.err
    code, printed = type_in(f"check --weights {name}")
    assert code == 2 and "--allow-imports" in printed.err

    denoise = Denoiser.load(name, allow_imports=[f"newcomers_nets:{name}"])
    photo = np.asarray(Image.open("photos/one.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(f"{name}.png")), denoise(photo))
    denoise.save(f"{name}.safetensors")
    config, _ = load_model(f"{name}.safetensors", allow_imports=True)
    assert config.backbone == f"newcomers_nets:{name}"
