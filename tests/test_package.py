"""The package as a whole: what importing it needs, and what it offers."""

import subprocess
import sys

import wne_jax as wne

OPTIONAL = (
    *("PIL", "tifffile", "skimage", "matplotlib", "tqdm", "tyro", "tensorboardX"),
    *("tensorflow", "tensorflow_datasets", "grain", "torch", "h5py", "safetensors"),
)


def test_the_core_imports_without_what_is_optional():
    blocked = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL}))"
    use = "import wne_jax as w; w.wrap(abs); w.models.build('dncnn'); w.Denoiser; w.noise.NOISES"
    done = subprocess.run(
        [sys.executable, "-c", f"{blocked}; {use}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    assert all(hasattr(wne, name) for name in wne.__all__)
