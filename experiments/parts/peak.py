"""Peak operations per second of a device, published or measured by a matrix product."""

import time

import jax
import jax.numpy as jnp

from wne_jax.training.config import Precision
from wne_jax.training.step import MATMUL_PRECISION

_SXM = {"float32": 66.9e12, "tf32": 494.7e12, "bfloat16": 989.4e12}
_A100 = {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12}
PUBLISHED = {
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    "NVIDIA H100 80GB HBM3": _SXM,
    "NVIDIA H100 PCIe": {"float32": 51.2e12, "tf32": 378e12, "bfloat16": 756e12},
    "NVIDIA H200": _SXM,
}
"""By JAX's `device_kind`, for whole devices (a slice has another name). From NVIDIA's architecture papers:
dense tensor cores for TF32 and bfloat16, ordinary cores for float32."""


def peak_flops(precision: Precision) -> tuple[float, str]:
    """The peak at a precision, in operations per second, and its origin: "published" or "matmul".

    Args:
        precision: "float32", "tf32" or "bfloat16".
    """
    device = jax.devices()[0]
    if device.device_kind in PUBLISHED:
        return PUBLISHED[device.device_kind][precision], "published"
    side = 1024 if device.platform == "cpu" else 8192
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    a = jnp.ones((side, side), dtype)
    with jax.default_matmul_precision(MATMUL_PRECISION[precision]):
        product = jax.jit(lambda a: a @ a).lower(a).compile()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds), "matmul"
