"""A demonstration on embedded images.

Paper: Saied & Fleuret (2026), Figures 3 and 4: the shape of the curves, not their values.
Command: `python -m experiments.mismatch`
Expected: trained at 25, four held-out photographs: baseline 16.6 dB, wne 24.4 dB at 75; both 29.5 dB at 25.
Cost: 80 s per network on 2 CPU cores; 155 KB.
"""

from experiments.harness.sizes.preset import SMALL_TRANSFORMERS, TEST_LEVELS, Preset

TINY = Preset(
    data="embedded",
    test=("embedded",),
    networks={
        "dncnn": {"depth": 6, "features": 32},
        "fdncnn": {"depth": 6, "features": 32},
        **SMALL_TRANSFORMERS,
    },
    train={"steps": 750, "batch": 16, "patch": 40},
    learning_rate=1e-3,
    schedule="cosine",
    test_sigmas_255=TEST_LEVELS,
    repeats=1,
    smooth_base_px=4.0,
)
