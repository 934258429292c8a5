"""Small networks on the paper's data, to compare the order of rows and the shape of curves.

Paper: Saied & Fleuret (2026), all tables and figures on Set12 and BSD68; they train DnCNN 20 x 64.
Command: `WNE_DATA=... python -m experiments.robustness --preset small`
Expected: trained at 25, Set12: baseline 29.55 dB at 25 (published 30.50), wne 29.35 (30.43).
Cost: 10 to 16 minutes per network on 2 CPU cores; 510 KB.
"""

from experiments.harness.sizes.preset import SMALL_TRANSFORMERS, TEST_LEVELS, Preset

SMALL = Preset(
    data="folder:BSD400",
    test=("folder:Set12", "folder:BSD68"),
    networks={
        "dncnn": {"depth": 8, "features": 48},
        "fdncnn": {"depth": 8, "features": 48},
        **SMALL_TRANSFORMERS,
    },
    train={"steps": 2000, "batch": 16, "patch": 40, "save_every": 500},
    learning_rate=1e-3,
    schedule="cosine",
    test_sigmas_255=TEST_LEVELS,
    repeats=1,
    smooth_base_px=8.0,
)
