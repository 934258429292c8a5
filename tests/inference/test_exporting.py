import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.config import ModelConfig, OneLevel, WrapperConfig
from wne_jax.inference.denoiser import Denoiser
from wne_jax.inference.exporting import load_exported
from wne_jax.testing import random_variables
from wne_jax.wrappers.one_level import ANCHOR

pytest.importorskip("flatbuffers", reason="jax.export writes its files with flatbuffers")


def make(backbone="dncnn", conditioned=False, statistics="haar_mad", inside=None, **options):
    options = options or {"depth": 3, "features": 4}
    if conditioned:
        options["conditioned"] = True
    config = ModelConfig(
        backbone,
        options,
        wrapper=WrapperConfig("wne", statistics, (0.0, 1.0) if inside is None else ANCHOR),
        inside=inside,
    )
    condition = {"sigma": jnp.ones(1)} if conditioned else {}
    model = config.build()
    variables = random_variables(model, jnp.zeros((1, 8, 8, 1)), **condition)
    return Denoiser(model, variables, config)


@pytest.mark.parametrize(
    "denoiser, shapes",
    [
        (make(), [(2, 13, 9, 1), (1, 2, 30, 1)]),
        (make(depth=3, features=4, padding="reflect"), [(2, 13, 9, 1)]),
        (make(statistics="noise_level"), [(1, 5, 30, 1), (2, 33, 40, 1), (1, 129, 140, 1)]),
        (
            make("drunet", features=(4, 4), blocks=1, statistics="mean_std"),
            [(1, 12, 8, 1), (2, 13, 9, 1)],
        ),
        (make(statistics="mean_std", inside=OneLevel(25)), [(2, 13, 9, 1), (1, 3, 2, 1)]),
    ],
    ids=["zeros", "reflect", "flat blocks", "drunet", "frozen"],
)
def test_an_artifact_is_the_function_at_every_size(denoiser, shapes, tmp_path):
    denoiser.export(tmp_path / "denoiser.bin")
    exported = load_exported(tmp_path / "denoiser.bin")
    assert len(repr(exported)) < 200
    for shape in shapes:
        y = np.random.default_rng(1).uniform(size=shape).astype(np.float32)
        np.testing.assert_allclose(exported(y), denoiser.function(y), atol=3e-6)


def test_a_conditioned_artifact_takes_the_level(tmp_path):
    denoiser = make("fdncnn", conditioned=True)
    denoiser.export(tmp_path / "denoiser.bin")
    y = np.random.default_rng(1).uniform(size=(2, 7, 9, 1)).astype(np.float32)
    sigma = np.float32([0.1, 0.3])
    result = load_exported(tmp_path / "denoiser.bin")(y, sigma)
    np.testing.assert_allclose(result, denoiser.function(y, sigma), atol=3e-6)


def test_what_is_no_artifact_is_refused_in_one_line(tmp_path):
    path = tmp_path / "text.bin"
    for content in (b"", b"no artifact at all", bytes(range(256)) * 4):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"text.bin is not an exported denoiser"):
            load_exported(path)
