"""Writes `scico_dncnn.npz`: the output of SCICO's DnCNNs for a small image.

SCICO 0.0.7 pins JAX to 0.8.1 at most, so it needs an environment of its own:

    python3.11 -m venv /tmp/scico
    /tmp/scico/bin/pip install "scico==0.0.7"
    /tmp/scico/bin/python tests/weights/make_scico_dncnn.py
"""

from pathlib import Path

import numpy as np


def main():
    from scico.denoiser import DnCNN

    rows, columns = np.mgrid[:24, :20]
    clean = 0.5 + 0.3 * np.sin(rows / 3.0) * np.cos(columns / 4.0)
    noise = np.random.default_rng(0).normal(size=clean.shape)
    y = (clean + 0.1 * noise).astype(np.float32)
    estimates = {name: np.asarray(DnCNN(name)(y)) for name in ("6M", "17M")}
    np.savez(Path(__file__).with_name("scico_dncnn.npz"), y=y, **estimates)


if __name__ == "__main__":
    main()
