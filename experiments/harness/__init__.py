"""Shared parts of the experiments: options, networks, result folders, published figures, tables.

| file | idea |
|---|---|
| `command.py` | `run`: parse options, report an error in one line |
| `options.py` | every shared option, declared once |
| `folders.py` | `results_folder`: results are complete or absent; `--resume` and `--overwrite` |
| `arms.py`, `sizes/` | what is trained: arms, and sizes with their command, expected figure and cost |
| `networks.py` | trained networks: loaded, or trained if missing |
| `images.py` | test images by the name of their set |
| `published.py` | the published figures of Saied & Fleuret (2026) |
| `tables.py` | tables, notes and training settings of the networks |
| `timing.py`, `compilations.py` | interleaved timing; how often XLA compiles |

A script defines its options, which extend one of the bases, and a `main`:

    @dataclass(frozen=True, kw_only=True)
    class Options(Sweep):
        NAME = "mine"

    def main(options: Options) -> None:
        denoisers = find_or_train(options, wanted(options))
        with results_folder(options) as out:
            records = sweep(...)
            out.write(records)
            write_table(out, "Mine", tables_of(records, VIEW), configs)
"""

from experiments.harness.arms import ARMS, Arm, Size, run_config
from experiments.harness.command import run
from experiments.harness.folders import (
    Folder,
    check_workdir,
    earlier_records,
    results_folder,
    together,
)
from experiments.harness.images import central, load_sets, set_name
from experiments.harness.networks import Wanted, file_name, find_or_train, name_of, without
from experiments.harness.options import (
    Arms,
    Compared,
    Data,
    Images,
    Levels,
    Measured,
    Networks,
    OneBackbone,
    OneLevelWeights,
    Photographs,
    Results,
    Seed,
    Sweep,
    Tested,
    Training,
    TrainLevels,
    one_of,
)
from experiments.harness.sizes import PRESETS, Preset
from experiments.harness.tables import (
    against_first,
    budgets,
    notes,
    other_trainings,
    tables_of,
    write_table,
)

__all__ = [
    "ARMS",
    "PRESETS",
    "Arm",
    "Arms",
    "Compared",
    "Data",
    "Folder",
    "Images",
    "Levels",
    "Measured",
    "Networks",
    "OneBackbone",
    "OneLevelWeights",
    "Photographs",
    "Preset",
    "Results",
    "Seed",
    "Size",
    "Sweep",
    "Tested",
    "TrainLevels",
    "Training",
    "Wanted",
    "against_first",
    "budgets",
    "central",
    "check_workdir",
    "earlier_records",
    "file_name",
    "find_or_train",
    "load_sets",
    "name_of",
    "notes",
    "one_of",
    "other_trainings",
    "results_folder",
    "run",
    "run_config",
    "set_name",
    "tables_of",
    "together",
    "without",
    "write_table",
]
