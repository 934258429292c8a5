"""Sweeps over noise levels, and records, tables and figures of their results."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wne_jax.evaluation import plotting
    from wne_jax.evaluation.origin import footer, provenance, write_json
    from wne_jax.evaluation.records import (
        INPUT,
        NOT_RUN,
        Record,
        mean_over,
        read_records,
        split_by,
        write_records,
    )
    from wne_jax.evaluation.sweeps import Defect, Quality, noisy_and_clean, sweep
    from wne_jax.evaluation.tables import Cell, Table, View, markdown, pivot
else:
    from wne_jax._internal.lazy import on_demand

    __getattr__, __dir__ = on_demand(__name__)
    del on_demand

__all__ = [
    "INPUT",
    "NOT_RUN",
    "Cell",
    "Defect",
    "Quality",
    "Record",
    "Table",
    "View",
    "footer",
    "markdown",
    "mean_over",
    "noisy_and_clean",
    "pivot",
    "plotting",
    "provenance",
    "read_records",
    "split_by",
    "sweep",
    "write_json",
    "write_records",
]
