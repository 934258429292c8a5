import pytest

from wne_jax.inference.denoiser import Denoiser
from wne_jax.weights import WeightsError, packaged


def test_the_packaged_denoisers_have_the_expected_hashes():
    for name in packaged.PACKAGED:
        assert packaged.packaged_file(name).stat().st_size <= 5e6
        assert Denoiser.pretrained(name).symmetry == "normalization"


def test_unknown_names_and_changed_files_are_rejected(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no denoiser 'colour' is packaged: there is gray, color"):
        Denoiser.pretrained("colour")
    path, expected = packaged.PACKAGED["gray"]
    changed = tmp_path / path.name
    changed.write_bytes(path.read_bytes()[:-1] + b"x")
    monkeypatch.setitem(packaged.PACKAGED, "gray", (changed, expected))
    with pytest.raises(WeightsError, match="is not the packaged file"):
        Denoiser.pretrained("gray")
    monkeypatch.setitem(packaged.PACKAGED, "gray", (tmp_path / "gone", expected))
    with pytest.raises(WeightsError, match="no file instead of"):
        Denoiser.pretrained("gray")
