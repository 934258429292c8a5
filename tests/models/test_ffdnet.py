import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wne_jax.models import FFDNet
from wne_jax.testing import random_variables

SMALL = {"depth": 3, "features": 8}


@pytest.mark.parametrize("channels", [1, 3])
def test_it_agrees_with_torch(key, channels):
    torch = pytest.importorskip("torch")
    net, sigma = FFDNet(**SMALL, conditioned=True), jnp.array([0.1, 0.3])
    y = jax.random.uniform(key, (2, 6, 8, channels))
    variables = random_variables(net, y, sigma)
    h = torch.tensor(np.asarray(y)).permute(0, 3, 1, 2)
    level = torch.tensor(np.asarray(sigma)).reshape(2, 1, 1, 1).expand(2, 1, 3, 4)
    h = torch.cat([torch.nn.functional.pixel_unshuffle(h, 2), level], dim=1)
    for i in range(3):
        layer = {
            name: torch.tensor(np.asarray(p))
            for name, p in variables["params"][f"conv_{i}"].items()
        }
        h = torch.relu(h) if i else h
        h = torch.nn.functional.conv2d(
            h, layer["kernel"].permute(3, 2, 0, 1), layer["bias"], padding=1
        )
    expected = torch.nn.functional.pixel_shuffle(h, 2).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(jax.jit(net.apply)(variables, y, sigma), expected, atol=2e-5)


def test_odd_sides_are_the_crop_of_the_reflected_image(key):
    net, y = FFDNet(**SMALL), jax.random.uniform(key, (1, 7, 9, 1))
    variables = random_variables(net, y)
    f = jax.jit(lambda y: net.apply(variables, y))
    padded = jnp.pad(y, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(f(y), f(padded)[:, :7, :9])


def test_the_receptive_radius_is_reached(key):
    net = FFDNet(depth=3, features=2)
    y = jnp.zeros((1, 2, 40, 1))
    positive = jax.tree.map(lambda p: jnp.full(p.shape, 0.2), random_variables(net, y))
    f = jax.jit(lambda y: net.apply(positive, y))
    reach = 0
    for at in (20, 21):
        (columns,) = np.nonzero(np.asarray(f(y.at[0, 0, at].set(1)) != f(y))[0, 0, :, 0])
        reach = max(reach, *np.abs(columns - at))
    assert reach == net.receptive_radius == 7
    assert FFDNet(padding="circular").receptive_radius is None


def test_refusals():
    with pytest.raises(ValueError, match="2 or more, not 1"):
        FFDNet(depth=1)
    with pytest.raises(ValueError, match="zeros, reflect, circular; not 'same'"):
        FFDNet(padding="same")
