"""Run by test_processes.py: one of several processes that train one run together."""

import sys
from pathlib import Path

import jax

from wne_jax.training import Compute, fit, joined, load_config

if __name__ == "__main__":
    # All that costs time here is to compile what runs forty times.
    jax.config.update("jax_disable_most_optimizations", True)
    coordinator, processes, process_id, config, workdir, parallel, corpus = sys.argv[1:]
    with joined(
        None if coordinator == "alone" else coordinator,
        processes=None if coordinator == "alone" else int(processes),
        process_id=None if coordinator == "alone" else int(process_id),
    ):
        fit(
            load_config(Path(config)),
            workdir,
            resume=True,
            compute=Compute(parallel, corpus),
            progress=False,
        )
