"""The paper's protocol, in which arms differ in loss, schedule and steps.

Paper: Saied & Fleuret (2026). Their corpus is larger: BSD400, Waterloo, DIV2K and Flickr2K.
Command: `WNE_DATA=... python -m experiments.robustness --preset paper`
Expected: trained at 25, Set12 at 25: baseline 30.50 dB, wne 30.43, ne-arch 30.37, SwinIR wne 30.65.
Cost: per network 500,000 steps of 128 crops of 70 x 70: a day or more on one accelerator. Never run here.
"""

import numpy as np

from experiments.harness.sizes.preset import Preset

PAPER = Preset(
    data="folder:BSD400",
    test=("folder:Set12", "folder:BSD68"),
    networks={
        "dncnn": {"depth": 20, "features": 64},
        "fdncnn": {"depth": 20, "features": 64},
        "swinir": {},
        "restormer": {},
    },
    train={
        "steps": 500_000,
        "batch": 128,
        "patch": 70,
        "save_every": 10_000,
        "log_every": 1000,
    },
    learning_rate=1e-4,
    schedule="halved",
    test_sigmas_255=tuple(float(s) for s in np.round(np.geomspace(5, 100, 20), 6)),
    repeats=20,
    smooth_base_px=16.0,
    own_settings={
        ("dncnn", "baseline"): {"loss": "l1", "schedule": "constant"},
        # Controls of the baseline, with its settings; the paper does not give theirs.
        ("dncnn", "multi-noise"): {"loss": "l1", "schedule": "constant"},
        ("dncnn", "soft-ne"): {"loss": "l1", "schedule": "constant"},
        ("fdncnn", "se-arch"): {"loss": "l1", "schedule": "constant"},
        ("fdncnn", "ne-arch"): {"schedule": "constant", "steps": 900_000},
        ("swinir", None): {"batch": 32, "patch": 64},
        ("swinir", "baseline"): {"schedule": "constant"},
        ("restormer", None): {"batch": 32, "patch": 64},  # as SwinIR: the paper does not give them
    },
)
