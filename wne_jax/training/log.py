"""The log of a run: one JSON object a line, TensorBoard beside it."""

import json
from pathlib import Path

from wne_jax._internal.files import write_atomically


class Log:
    """Appends to `metrics.jsonl` and to TensorBoard event files. A context manager.

    Args:
        workdir: The run's folder.
        start: The step that the run (re)starts from: later lines of an earlier try are dropped.
    """

    def __init__(self, workdir: Path, *, start: int):
        path = workdir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _step(line) <= start]
        write_atomically(path, "".join(line + "\n" for line in kept))
        self._file = path.open("a")
        try:
            from tensorboardX import SummaryWriter
        except ImportError:  # the log above holds the same numbers
            self._board = None
        else:
            self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()
        if self._board:
            self._board.close()

    def write(self, step: int, **values: float) -> None:
        """Add one line."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)


def _step(line: str) -> float:
    """The step of a line; infinite for a line that a crash cut short."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
