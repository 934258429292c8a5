"""Weight files that claim more than they contain are rejected in one line, before memory is allocated."""

import json
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from wne_jax._internal import limits
from wne_jax.config import ModelConfig
from wne_jax.weights import WeightsError, load_model, read_tensors

KERNEL = np.ones((3, 3, 4, 4), np.float32)


def refusal(read, path, *, most=2**27):
    """The error message, which must come quickly and with little memory."""
    tracemalloc.start()
    began = time.monotonic()
    try:
        with pytest.raises(WeightsError) as caught:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < 30  # a second on an idle machine
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 1000
    assert peak < most
    return message


def ours(path, backbone="dncnn", inside=None, tensors=5, kernel=KERNEL, **options):
    """A file as written by `save`, with any configuration."""
    config = {"backbone": backbone, "options": options, "wrapper": None, "inside": inside}
    metadata = {"wne_jax.format": "2", "wne_jax.model": json.dumps(config)}
    save_file({f"params/conv_{i}/kernel": kernel for i in range(tensors)}, path, metadata)
    return path


BLUR = {"kind": "smooth_base", "sigma_px": 1e9, "wiener_cap": None}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"depth": 10**9}, "depth is 1000000000; at most 10000 is built"),
        ({"depth": 10_000}, "tensors belong to a smaller network"),
        ({"features": 10**9}, "features is 1000000000"),
        ({"depth": -(10**9)}, "depth is -1000000000"),
        ({"depth": 1e300}, "at most 10000"),
        ({"inside": BLUR}, "sigma_px must be at most 50"),
        ({"inside": BLUR | {"sigma_px": float("inf")}}, "sigma_px must be"),
        ({"backbone": "swinir", "window": 10_000}, "window is 10000; at most 32"),
        ({"backbone": "swinir", "groups": 9_000, "blocks": 9_000}, "a smaller network"),
        ({"backbone": "drunet", "features": [8] * 101}, "features has 101 entries"),
        ({"backbone": "drunet", "features": [[[8]]]}, "nested more than two levels"),
        ({"backbone": "restormer", "blocks": [9_999] * 4}, "a smaller network"),
    ],
)
def test_a_configuration_beyond_the_limits_is_rejected(tmp_path, config, reason):
    assert reason in refusal(load_model, ours(tmp_path / "x.safetensors", **config))


def test_a_network_as_deep_as_its_file_is_read(tmp_path):
    """The limit on layers grows with the number of tensors."""
    import jax

    config = ModelConfig("dncnn", {"depth": 300, "features": 1, "batch_norm": False})
    shapes = jax.eval_shape(
        config.build().init, jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32)
    )
    flat = {"/".join(k.key for k in path): np.zeros(leaf.shape, leaf.dtype)
            for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)}  # fmt: skip
    text = json.dumps({"backbone": config.backbone, "options": config.options, "wrapper": None})
    save_file(flat, tmp_path / "x.safetensors", {"wne_jax.format": "2", "wne_jax.model": text})
    assert load_model(tmp_path / "x.safetensors")[0] == config


def test_nested_metadata_gives_one_line(tmp_path):
    nested = '{"a":' * 5000 + "1" + "}" * 5000
    metadata = {"wne_jax.format": "2", "wne_jax.model": nested}
    save_file({"params/x": KERNEL}, tmp_path / "x.safetensors", metadata)
    assert "damaged" in refusal(load_model, tmp_path / "x.safetensors")


def test_a_safetensors_header_that_claims_gigabytes_is_rejected(tmp_path):
    header = json.dumps(
        {"x": {"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}}
    ).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    assert "damaged" in refusal(read_tensors, tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "content", [b"\x81\xa1a" * 5000 + b"\x01", b"\x91" * 5000, b"\xdd\xff\xff\xff\xff"]
)
def test_nested_msgpack_gives_one_line(tmp_path, content):
    (tmp_path / "x.mpk").write_bytes(content)
    refusal(read_tensors, tmp_path / "x.mpk")


def matlab(path, **layer):
    """A MatConvNet file of one convolution; `layer` replaces its datasets."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("one")
        group["type"] = np.frombuffer(b"conv", np.uint8).astype(np.uint16)[:, None]
        kernel = layer.get("kernel", lambda file: file.create_dataset("kernel", data=KERNEL))(file)
        file["bias"] = np.zeros((1, 4), np.float32)
        references = np.array([[kernel.ref], [file["bias"].ref]], h5py.ref_dtype)
        group.create_dataset("weights", data=references, dtype=h5py.ref_dtype)
        layers = np.array([[group.ref]], h5py.ref_dtype)
        file.create_dataset("net/layers", data=layers, dtype=h5py.ref_dtype)
    return path


def test_a_matlab_header_that_claims_gigabytes_is_rejected(tmp_path):
    pytest.importorskip("h5py")
    assert read_tensors(matlab(tmp_path / "whole.mat"))["layers.1.filters"].shape == (4, 4, 3, 3)
    huge = matlab(
        tmp_path / "x.mat", kernel=lambda f: f.create_dataset("kernel", (10**5, 10**5), "f4")
    )
    assert "claims 40,000,000,000 bytes but stores 0" in refusal(read_tensors, huge)


def test_a_matlab_file_cannot_include_other_files(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(b"secret!!" * 100)
    outside = [(str(tmp_path / "secret"), 0, 16)]
    path = matlab(
        tmp_path / "x.mat",
        kernel=lambda f: f.create_dataset("kernel", (2, 2), "f4", external=outside),
    )
    assert "is stored in another file" in refusal(read_tensors, path)
    matlab(tmp_path / "other.mat")
    path = matlab(tmp_path / "y.mat")
    with h5py.File(path, "a") as file:
        del file["net/layers"]
        file["net/layers"] = h5py.ExternalLink("other.mat", "/net/layers")
    assert "is stored in another file, 'other.mat'" in refusal(read_tensors, path)


@pytest.mark.torch
class TestTorch:
    """Files of PyTorch."""

    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    def test_nested_containers_are_rejected(self, tmp_path, torch):
        nested = {"w": torch.zeros(2, 2)}
        for _ in range(5000):
            nested = {"a": nested}
        import sys

        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(50_000)  # for the pickler
        try:
            torch.save(nested, tmp_path / "x.pt")
        finally:
            sys.setrecursionlimit(limit)
        assert "nested more than 100 deep" in refusal(read_tensors, tmp_path / "x.pt")

    @pytest.mark.parametrize("archive", [True, False])
    def test_a_million_references_to_a_few_bytes_are_rejected(self, tmp_path, torch, archive):
        tensor = torch.zeros(2, 2)
        for number, path in ((10, tmp_path / "whole.pt"), (10**6, tmp_path / "x.pt")):
            state = {"state": {"w": tensor}, "more": [tensor] * number}
            torch.save(state, path, _use_new_zipfile_serialization=archive)
        assert read_tensors(tmp_path / "whole.pt")["w"].shape == (2, 2)
        assert "more than 500,000 pickle instructions" in refusal(read_tensors, tmp_path / "x.pt")

    def test_an_archive_of_several_disks(self, tmp_path, torch):
        torch.save({"w": torch.zeros(2, 2)}, tmp_path / "x.pt")
        raw = bytearray((tmp_path / "x.pt").read_bytes())
        place = raw.rindex(b"PK\x06\x07")  # of the locator of the 64-bit end
        raw[place + 16] = 9
        (tmp_path / "x.pt").write_bytes(raw)
        assert "multiple disks" in refusal(read_tensors, tmp_path / "x.pt")

    def test_repeating_views_are_rejected(self, tmp_path, torch):
        torch.save({"w": torch.zeros(1, 1).expand(10**6, 10**6)}, tmp_path / "x.pt")
        assert "claims 4,000,000,000,000 bytes" in refusal(read_tensors, tmp_path / "x.pt")

    def test_an_archive_that_unpacks_beyond_the_limit_is_rejected(
        self, tmp_path, monkeypatch, torch
    ):
        monkeypatch.setattr(limits, "MAX_UNPACKED", 2**21)
        torch.save({"w": torch.zeros(2, 2)}, tmp_path / "whole.pt")
        with (
            zipfile.ZipFile(tmp_path / "whole.pt") as whole,
            zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
        ):
            for entry in whole.infolist():
                bomb.writestr(entry.filename, whole.read(entry))
            with bomb.open("whole/data/1", "w") as data:
                data.write(bytes(2**22))
        assert "at most" in refusal(read_tensors, tmp_path / "x.pt")
