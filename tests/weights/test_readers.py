import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from wne_jax.weights import WeightsError, load_model, read_tensors

RNG = np.random.default_rng(0)


def refusal(path, **options):
    """The reason, in one line, for which a file is rejected."""
    with pytest.raises(WeightsError) as caught:
        load_model(path, **options)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".mat", ".mpk", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"neither weights nor anything", bytes(range(256)) * 9])
def test_other_files_are_rejected_in_one_line(tmp_path, suffix, content):
    if suffix in (".pt", ".pth"):
        pytest.importorskip("torch", reason="reads .pt")
    if suffix == ".mat":
        pytest.importorskip("h5py", reason="reads .mat")
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    assert refusal(path).startswith("damaged" if content else "the file is empty")


def test_unknown_suffixes_folders_and_missing_files_are_rejected(tmp_path):
    assert refusal(tmp_path / "x.onnx") == "no such file"
    (tmp_path / "x.onnx").write_bytes(b"x")
    assert "unknown suffix '.onnx'; expected one of .pt" in refusal(tmp_path / "x.onnx")
    assert refusal(tmp_path / "x.mpk") == "no such file"
    (tmp_path / "x.safetensors").mkdir()
    assert refusal(tmp_path / "x.safetensors") == "is a folder"


def test_safetensors_are_read_in_single_precision_without_a_common_prefix(tmp_path):
    from safetensors.numpy import save_file

    values = RNG.normal(size=(3, 2)).astype(np.float32)
    save_file(
        {
            "module.a.weight": values,
            "module.half": values.astype(np.float16),
            "module.brain": np.asarray(jnp.asarray(values, jnp.bfloat16)),
            "module.count": np.array(7),
        },
        tmp_path / "x.safetensors",
    )
    tensors = read_tensors(tmp_path / "x.safetensors")
    assert sorted(tensors) == ["a.weight", "brain", "count", "half"] and tensors["count"] == 7
    np.testing.assert_array_equal(tensors["a.weight"], values)
    for name, digits in (("half", 11), ("brain", 8)):
        assert tensors[name].dtype == np.float32
        np.testing.assert_allclose(tensors[name], values, rtol=2.0**-digits)


def test_a_prefix_of_only_some_names_is_kept(tmp_path):
    from safetensors.numpy import save_file

    save_file({"module.a": np.zeros(2), "b": np.zeros(2)}, tmp_path / "x.safetensors")
    assert sorted(read_tensors(tmp_path / "x.safetensors")) == ["b", "module.a"]


def test_flax_msgpack_is_flattened_and_may_contain_only_arrays(tmp_path):
    path, kernel = tmp_path / "x.mpk", RNG.normal(size=(3, 3, 1, 4)).astype(np.float32)
    content = serialization.msgpack_serialize({"params": {"conv": {"kernel": kernel}}})
    path.write_bytes(content)
    tensors = read_tensors(path)
    assert list(tensors) == ["params/conv/kernel"]
    np.testing.assert_array_equal(tensors["params/conv/kernel"], kernel)
    path.write_bytes(content[:-20])
    assert refusal(path).startswith("damaged")
    path.write_bytes(serialization.msgpack_serialize({"params": {"conv": "text"}}))
    assert refusal(path) == "params/conv is a str, not an array"
    path.write_bytes(serialization.msgpack_serialize([1, 2]))
    assert refusal(path) == "contains a list, not a dict of arrays"


def write_simplenn(path, *, kinds=("conv", "relu", "conv"), leak=0.0, pad=1.0, inputs=1, **fields):
    """A MatConvNet file as MATLAB writes it: cells of references, reversed axes, no trailing ones.

    `bnorm` has multipliers 2, biases 5 and moments 3 and 4, `SubP` the scales of FFDNet.
    """
    h5py = pytest.importorskip("h5py", reason="writes .mat")
    shapes = (3, 3, inputs, 4), (3, 3, 4, 1)
    kernels = [RNG.normal(size=shape).astype(np.float32) for shape in shapes]
    biases = [RNG.normal(size=n).astype(np.float32) for n in (4, 1)]
    left = iter(zip(kernels, biases))
    with h5py.File(path, "w") as file:
        refs = file.create_group("#refs#")

        def cell(name, members):
            data = file.create_dataset(name, (len(members), 1), h5py.ref_dtype)
            for i, member in enumerate(members):
                data[i, 0] = member.ref
            return data

        layers = []
        for i, kind in enumerate(kinds):
            layer = refs.create_group(f"layer{i}")
            layer["type"] = np.array([[ord(c)] for c in kind], np.uint16)
            if kind == "relu":
                layer["leak"] = np.full((1, 1), leak)
            if kind == "SubP":
                layer["scale"] = np.full((1, 1), 2.0 if i else 0.5)
            if kind == "bnorm":
                ones = np.ones((1, 4), np.float32)
                moments = np.concatenate([3 * ones, 4 * ones])
                parts = (("a", 2 * ones), ("b", 5 * ones), ("c", moments))
                data = [refs.create_dataset(f"{name}{i}", data=part) for name, part in parts]
                cell(f"#refs#/layer{i}/weights", data)
            if kind == "conv":
                kernel, bias = next(left)
                kernel = kernel[..., 0] if kernel.shape[-1] == 1 else kernel
                data = [
                    refs.create_dataset(f"filters{i}", data=kernel.T),
                    refs.create_dataset(f"biases{i}", data=bias[None]),
                ]
                cell(f"#refs#/layer{i}/weights", data)
                for field, value in ({"pad": pad, "stride": 1.0} | fields).items():
                    layer[field] = np.full((1, 1), value)
            layers.append(layer)
        cell("net/layers", layers)
    return kernels, biases


def test_matconvnet_kernels_have_the_axes_of_matlab(tmp_path):
    kernels, biases = write_simplenn(tmp_path / "x.mat")
    tensors = read_tensors(tmp_path / "x.mat")
    assert list(tensors) == [
        "layers.1.filters", "layers.1.biases", "layers.3.filters", "layers.3.biases",
    ]  # fmt: skip
    for n, kernel, bias in zip((1, 3), kernels, biases):
        np.testing.assert_array_equal(tensors[f"layers.{n}.filters"], kernel)
        np.testing.assert_array_equal(tensors[f"layers.{n}.biases"], bias)


def test_matconvnet_batch_normalization_is_merged_into_the_preceding_convolution(tmp_path):
    kinds = ("conv", "bnorm", "relu", "conv")
    kernels, biases = write_simplenn(tmp_path / "x.mat", kinds=kinds)
    tensors = read_tensors(tmp_path / "x.mat")
    assert list(tensors)[2:] == ["layers.3.filters", "layers.3.biases"]
    np.testing.assert_allclose(tensors["layers.1.filters"], 2 * kernels[0] / 4, rtol=1e-6)
    np.testing.assert_allclose(
        tensors["layers.1.biases"], 2 * (biases[0] - 3) / 4 + 5, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    ("kinds", "first", "inputs"),
    [
        (("concat", "conv", "relu", "conv"), 2, 2),
        (("SubP", "concat", "conv", "relu", "conv", "SubP"), 3, 5),
    ],
)
def test_the_index_of_the_first_convolution_shows_what_precedes_it(tmp_path, kinds, first, inputs):
    kernels, _ = write_simplenn(tmp_path / "x.mat", kinds=kinds, inputs=inputs)
    tensors = read_tensors(tmp_path / "x.mat")
    assert list(tensors)[::2] == [f"layers.{first}.filters", f"layers.{first + 2}.filters"]
    np.testing.assert_array_equal(tensors[f"layers.{first}.filters"], kernels[0])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"leak": 0.2}, "layers.2 has leak [[0.2]]; only 0 is supported"),
        (
            {"kinds": ("conv", "pool", "conv")},
            "layers.2 is a layer 'pool'; supported are conv, relu",
        ),
        ({"kinds": ("conv", "relu")}, "starts with ['conv'] and ends with ['conv', 'relu']"),
        ({"kinds": ("concat",)}, "starts with ['concat'] and ends with"),
        ({"kinds": ("SubP", "concat", "conv")}, "starts with ['SubP', 'concat', 'conv'] and"),
        ({"pad": 0.0}, "layers.1 has pad [[0.0]]; only 1 is supported"),
        ({"stride": 2.0}, "layers.1 has stride [[2.0]]; only 1 is supported"),
        ({"dilate": 2.0}, "layers.1 has dilate [[2.0]]; only 1 is supported"),
    ],
)
def test_unsupported_matconvnet_layers_are_rejected(tmp_path, changes, reason):
    write_simplenn(tmp_path / "x.mat", **changes)
    assert refusal(tmp_path / "x.mat").startswith(reason)


def test_other_matlab_files_are_rejected_with_a_reason(tmp_path):
    h5py = pytest.importorskip("h5py", reason="reads .mat")
    path = tmp_path / "x.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(512))
    assert refusal(path).startswith("MATLAB format older than version 7.3; save it again")
    with h5py.File(path, "w") as file:
        file["net/params"] = np.zeros(3)
    assert refusal(path).startswith("a DagNN network of MatConvNet; only simplenn")
    with h5py.File(path, "w") as file:
        file["net/meta"] = np.zeros(3)
    assert refusal(path).startswith("has no net.layers")
    write_simplenn(path)
    path.write_bytes(path.read_bytes()[:-500])
    assert refusal(path).startswith("damaged, or not a MATLAB v7.3 file")


@pytest.mark.parametrize(
    ("module", "suffix", "extra"), [("torch", ".pth", "torch"), ("h5py", ".mat", "matconvnet")]
)
def test_a_missing_extra_is_named_with_its_command(tmp_path, monkeypatch, module, suffix, extra):
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"something")
    assert refusal(path).endswith(f': pip install "wne-jax[{extra}]"')


def test_importing_the_package_imports_no_third_party_readers():
    code = (
        "import sys, wne_jax.weights\n"
        "print([m for m in ('torch', 'h5py', 'safetensors', 'msgpack') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(eval(result.stdout)) <= {"msgpack"}  # Flax itself imports that one
