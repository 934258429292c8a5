"""Training states on disk, through Orbax: written aside and moved into place, the last few kept."""

import logging
import os
import re
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax

from wne_jax._internal.extras import extra
from wne_jax._internal.files import free_name
from wne_jax.config import ModelConfig
from wne_jax.training.claim import PARTS, Identity
from wne_jax.training.config import TrainConfig, load_config, parse_config
from wne_jax.training.processes import any_process, is_lead, is_of_a_connection, wait_for_all
from wne_jax.training.step import TrainState, create_state
from wne_jax.weights.saved import check_imports

with extra("train", "checkpoints"):
    import orbax.checkpoint as ocp

_ORBAX = logging.getLogger("absl")
"""Where Orbax prints whole tracebacks of what it then raises."""


class _Names(ocp.path.step.NameFormat):
    """Orbax's names of checkpoints, which passes over those whose metadata it would choke on.

    Attributes:
        unreadable: What is wrong with each of these, by their steps.
    """

    def __init__(self) -> None:
        self._names = ocp.path.step.standard_name_format()
        self.unreadable: dict[int, str] = {}

    def build_name(self, step: int) -> str:
        """The name of a step."""
        return self._names.build_name(step)

    def find_all(self, base_path: Any) -> Iterator[Any]:
        """The steps of a folder."""
        self.unreadable.clear()
        for found in self._names.find_all(base_path):
            try:
                _ = found.commit_timestamp  # which reads the metadata
            except Exception as error:  # many kinds
                self.unreadable[found.step] = f"its metadata cannot be read: {_reason(error)}"
            else:
                yield found

    def find_step(self, base_path: Any, step: int) -> Any:
        """One step."""
        return self._names.find_step(base_path, step)


class Checkpoints:
    """The checkpoints of one run. A context manager: leaving it waits for writes under way.

    Several processes that train together make it together, and write each state once; a reader
    (`create=False`) is each by itself.

    Args:
        workdir: The run's folder; checkpoints are kept in its folder `checkpoints`.
        keep: How many of the last are kept.
        identity: The run, to be kept in what is saved.
        create: Make the folder if it is absent; a reader does not.
    """

    def __init__(
        self, workdir: Path, *, keep: int, identity: Identity | None = None, create: bool = True
    ):
        self._writes, self._identity = create, identity
        processes = ocp.options.MultiprocessingOptions()
        if not create and jax.process_count() > 1:
            me = jax.process_index()
            processes = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
        self._names = _Names()
        self._manager = ocp.CheckpointManager(
            Path(workdir).resolve() / "checkpoints",
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                create=create,
                cleanup_tmp_directories=create,
                multiprocessing_options=processes,
                step_name_format=self._names,
            ),
            # Otherwise Orbax asks the newest folder how all are laid out, and believes an empty one.
            item_handlers=ocp.StandardCheckpointHandler(),
        )

    def __enter__(self) -> "Checkpoints":
        self._logged = _ORBAX.level
        _ORBAX.setLevel(logging.CRITICAL)  # what matters of it raises
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, *trace: object) -> None:
        if is_of_a_connection(error):
            return  # a write under way would wait for the process that is gone
        try:
            self._manager.close()
        except Exception as own:  # of the write under way
            error = error or self._unwritten(own)
        finally:
            _ORBAX.setLevel(self._logged)
        if self._writes and isinstance(error, OSError):
            raise OSError(f"{error}; {self._intact()}") from error

    @property
    def latest(self) -> int | None:
        """The step of the last checkpoint, whole or damaged, or None."""
        return max(self.steps, default=None)

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints, whole ones and damaged ones."""
        return sorted({*self._manager.all_steps(), *self._names.unreadable})

    def identity(self, step: int) -> dict[str, Any] | None:
        """The values of the identity that a checkpoint was saved with; None if it has none."""
        try:
            values = (self._manager.metadata(step).custom_metadata or {})["run"]
            return values if all(isinstance(values[name], dict) for name in PARTS) else None
        except Exception:  # of a damaged one, Orbax raises many kinds
            return None

    def save(self, state: TrainState) -> None:
        """Begin to write a state, unless its step is written already.

        Raises:
            OSError: This one, or the one before, cannot be written; when the context is left, the message
                says which one is intact.
        """
        step = int(state.step)
        if step == self.latest:
            return
        try:
            self._manager.save(
                step,
                args=ocp.args.StandardSave(state),
                custom_metadata=self._identity and {"run": self._identity.values()},
            )
        except Exception as error:  # Orbax and TensorStore raise many kinds
            raise self._unwritten(error) from error

    def restore(
        self, config: TrainConfig, *, step: int | None = None, sharding: Any = None
    ) -> TrainState:
        """A state.

        Args:
            config: The run.
            step: Which (default: the last).
            sharding: Where its leaves go (default: all to one device).

        Raises:
            FileNotFoundError: There is no checkpoint.
            ValueError: It is damaged, or belongs to another model.
        """
        step = self.latest if step is None else step
        if step is None:
            raise FileNotFoundError(f"{self._manager.directory} holds no checkpoint")
        expected = jax.eval_shape(lambda: create_state(config))
        sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        expected = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), expected
        )
        try:
            if step in self._names.unreadable:
                raise ValueError(self._names.unreadable[step])
            return self._manager.restore(step, args=ocp.args.StandardRestore(expected))
        except Exception as error:  # Orbax raises many kinds for a damaged or foreign checkpoint.
            raise ValueError(
                f"the checkpoint of step {step} in {self._manager.directory} is damaged or "
                f"belongs to another model: {_reason(error)}"
            ) from error

    def restore_intact(self, config: TrainConfig, *, sharding: Any = None) -> TrainState:
        """The last state that can be read, with a warning about later ones.

        A writer moves those aside, as `STEP.damaged`; a reader leaves them.

        Raises:
            FileNotFoundError: There is no checkpoint.
            ValueError: None can be read.
        """
        if self.latest is None:
            raise FileNotFoundError(f"{self._manager.directory} holds no checkpoint")
        damaged: dict[int, str] = {}
        for step in reversed(self.steps):
            try:
                state, reason = self.restore(config, step=step, sharding=sharding), None
            except ValueError as error:
                reason = str(error)
            if any_process(reason is not None):
                damaged[step] = reason or f"step {step} cannot be read by another process"
                continue
            if damaged:
                if self._writes:
                    self._set_aside(list(damaged))
                reasons = "; ".join(damaged.values())
                warnings.warn(f"{reasons}; going on from step {step}", stacklevel=3)
            return state
        raise ValueError("no checkpoint can be read: " + "; ".join(damaged.values()))

    def _set_aside(self, steps: list[int]) -> None:
        """Move checkpoints out of the way of those that will be written."""
        folder = Path(self._manager.directory)
        if is_lead():
            for step in steps:
                (folder / str(step)).rename(free_name(folder / f"{step}.damaged"))
        wait_for_all("damaged checkpoints are set aside")
        self._manager.reload()

    def _unwritten(self, error: Exception) -> OSError:
        folder = self._manager.directory
        return OSError(f"a checkpoint in {folder} cannot be written: {_reason(error)}")

    def _intact(self) -> str:
        """Which checkpoint a failure has left."""
        self._manager.reload()
        if self.steps:
            return f"the checkpoint of step {self.steps[-1]} is intact"
        return "there is no checkpoint yet"


def load_run(
    path: Path, *, allow_imports: bool | Collection[str] = False
) -> tuple[ModelConfig, dict[str, Any], int]:
    """The model of a training run, its variables, and their step: those of its newest intact checkpoint.

    Raises:
        FileNotFoundError: No run is there, or no checkpoint.
        ValueError: A damaged configuration, import paths in it that are not allowed, or no checkpoint that
            can be read.
    """
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} holds no training run: there is no config.json in it")
    config = load_config(path / "config.json")
    check_imports(config.model, allow_imports, str(path))
    with Checkpoints(path, keep=config.keep, create=False) as checkpoints:
        state = checkpoints.restore_intact(config)
        kept = checkpoints.identity(int(state.step))
    if kept and parse_config(kept["config"], path).model != config.model:
        raise ValueError(
            f"{path / 'config.json'} names another model than the checkpoints beside it were saved with"
        )
    return config.model, state.variables(), int(state.step)


def _reason(error: Exception) -> str:
    """What the operating system says, or the first line of what a library does, cut short."""
    text = str(error).strip() or type(error).__name__
    if found := re.search(r"os_error_code='(\d+)'", text):  # TensorStore says it last
        return os.strerror(int(found[1]))
    return text.splitlines()[0][:300]
