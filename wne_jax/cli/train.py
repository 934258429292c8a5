"""`python -m wne_jax train`: one denoiser, trained on one's own images."""

from dataclasses import dataclass

from wne_jax.cli.commands import say
from wne_jax.cli.train_options import Options


@dataclass(frozen=True, kw_only=True)
class Train(Options):
    """Train a denoiser on images, into a folder that `denoise --weights` takes.

    The folder gets the configuration, a log (metrics.jsonl, TensorBoard) and checkpoints.
    """

    def run(self) -> int:
        """Train, and say how to use the result."""
        from wne_jax.cli.training_run import train
        from wne_jax.training import Diverged

        try:
            with self.machine.joined():  # JAX must not be used before
                train(self)
        except Diverged as error:
            say("error", error)
            return 2
        return 0
