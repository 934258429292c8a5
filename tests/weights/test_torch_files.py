import argparse
import builtins
import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from wne_jax.weights import WeightsError, read_tensors

torch = pytest.importorskip("torch", reason="writes PyTorch checkpoints")
pytestmark = pytest.mark.torch

STATE = OrderedDict({
    "conv.weight": torch.arange(12.0).reshape(2, 6),
    "conv.bias": torch.tensor([1.0, -2.0]),
    "norm.num_batches_tracked": torch.tensor(3),
})  # fmt: skip
ADAM = {"state": {0: {"exp_avg": torch.ones(2, 6), "step": torch.tensor(9.0)}}, "param_groups": []}


def write(tmp_path, content, **options):
    path = tmp_path / "x.pth"
    torch.save(content, path, **options)
    return path


def check(tensors):
    assert list(tensors) == list(STATE)
    for name, tensor in STATE.items():
        np.testing.assert_array_equal(tensors[name], tensor.numpy())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"params": STATE},
        {"state_dict": {f"module.{name}": tensor for name, tensor in STATE.items()}, "epoch": 3},
        {"model": [STATE], "args": None, "best_score": [1.5]},
        {"a": ({"model_state_dict": dict(STATE)},), "optimizer_state_dict": ADAM},
        {"model_state": STATE, "averages": {"loss": torch.tensor(0.5)}, "solver": ADAM},
        {"net": STATE, "optimizer": {"moments": {"conv.weight": torch.ones(2, 6)}}},
    ],
    ids=["bare", "params", "module", "list", "tuple", "averages", "moments"],
)
def test_the_state_dict_is_found_anywhere(tmp_path, content, zipped):
    check(read_tensors(write(tmp_path, content, _use_new_zipfile_serialization=zipped)))


def test_one_of_several_state_dicts_must_be_chosen(tmp_path):
    path = write(tmp_path, {"params": {"w": torch.zeros(2, 2)}, "nested": [{"params_ema": STATE}]})
    with pytest.raises(WeightsError, match="choose one with key=: params, nested/0/params_ema"):
        read_tensors(path)
    check(read_tensors(path, key="nested/0/params_ema"))
    with pytest.raises(WeightsError, match="no state dict 'ema'; there is params, nested/0"):
        read_tensors(path, key="ema")


def test_a_file_without_weights_is_rejected(tmp_path):
    itself = []
    itself.append(itself)
    for content in (itself, {}, [torch.ones(3)], {"optimizer": ADAM}, {"loss": torch.tensor(1.0)}):
        with pytest.raises(WeightsError, match=r"x\.pth: contains no state dict"):
            read_tensors(write(tmp_path, content))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_becomes_single_and_double_is_kept(tmp_path, dtype):
    values = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    tensors = read_tensors(write(tmp_path, {"half": values.to(dtype), "double": values}))
    assert tensors["half"].dtype == np.float32 and tensors["double"].dtype == np.float64
    np.testing.assert_array_equal(tensors["half"], values.to(dtype).float().numpy())
    np.testing.assert_array_equal(tensors["double"], values.numpy())


class Foreign:
    """A function that unpickling would call."""

    def __reduce__(self):
        return builtins.exec, ("raise SystemExit('executed')",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (Foreign(), r"(\w+\.)?exec"),
        (torch.nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
        ({"model": STATE, "score": np.float64(1)}, r"numpy\._?core\.multiarray\.scalar"),
    ],
    ids=["function", "module", "number"],
)
def test_other_objects_are_rejected_by_name(tmp_path, content, name, zipped):
    path = write(tmp_path, content, _use_new_zipfile_serialization=zipped)
    for allow_namespace in (False, True):
        with pytest.raises(WeightsError, match=rf"x\.pth: rejected: it pickles {name}, but only"):
            read_tensors(path, allow_namespace=allow_namespace)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_other_pickles_are_rejected_without_advice_to_trust_them(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"model": [1.0]}, protocol=4))
    with pytest.raises(WeightsError, match="damaged, or contains more than tensors"):
        read_tensors(path)


def test_argparse_settings_are_accepted_if_allowed(tmp_path):
    path = write(tmp_path, {"model": [STATE], "args": argparse.Namespace(lr=0.1, extra=STATE)})
    hint = r"argparse.Namespace, .* accept them with allow_namespace=True \(--allow-namespace\)"
    with pytest.raises(WeightsError, match=hint):
        read_tensors(path)
    check(read_tensors(path, allow_namespace=True))
    with pytest.raises(WeightsError, match=hint):  # the permission is only for the other call
        read_tensors(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_truncated_file_is_rejected_in_one_line(tmp_path, zipped):
    whole = io.BytesIO()
    torch.save(STATE, whole, _use_new_zipfile_serialization=zipped)
    path = tmp_path / "x.pt"
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(WeightsError, match=r"x\.pt: damaged, or not a PyTorch file") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


def test_tensors_without_a_dense_form_are_rejected(tmp_path):
    with pytest.raises(WeightsError, match="damaged, or not a PyTorch file"):
        read_tensors(write(tmp_path, {"w": torch.eye(3).to_sparse()}))
