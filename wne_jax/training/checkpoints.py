"""Training states on disk, through Orbax: written aside and moved into place, the last few kept."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from wne_jax.training.config import TrainConfig
from wne_jax.training.step import TrainState, create_state


class Checkpoints:
    """The checkpoints of one run. A context manager: leaving it waits for writes under way.

    Args:
        workdir: The run's folder; checkpoints are kept in its folder `checkpoints`.
        keep: How many of the last are kept.
        create: Make the folder if it is absent; a reader does not.
    """

    def __init__(self, workdir: Path, *, keep: int, create: bool = True):
        self._manager = ocp.CheckpointManager(
            Path(workdir).resolve() / "checkpoints",
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=create),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """The step of the last whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState) -> None:
        """Write a state, unless its step is written already."""
        step = int(state.step)
        if step != self.latest:
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, config: TrainConfig) -> TrainState:
        """The last state.

        Raises:
            FileNotFoundError: There is no checkpoint.
            ValueError: The last one is damaged, or belongs to another model.
        """
        if self.latest is None:
            raise FileNotFoundError(f"{self._manager.directory} holds no checkpoint")
        expected = jax.eval_shape(lambda: create_state(config))
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        expected = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), expected
        )
        try:
            return self._manager.restore(self.latest, args=ocp.args.StandardRestore(expected))
        except Exception as error:  # Orbax raises many kinds for a damaged or foreign checkpoint.
            reason = str(error).strip().splitlines()[0][:300]
            raise ValueError(
                f"the checkpoint of step {self.latest} in {self._manager.directory} is damaged or "
                f"belongs to another model: {reason}"
            ) from error
