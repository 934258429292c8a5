"""`python -m wne_jax train`: train a denoiser."""

from dataclasses import dataclass

from wne_jax.cli.commands import print_line
from wne_jax.cli.train_options import Options


@dataclass(frozen=True, kw_only=True)
class Train(Options):
    """Train a denoiser on images; `denoise --weights` reads the resulting folder.

    The folder contains the configuration, a log (metrics.jsonl, TensorBoard) and checkpoints.
    """

    def run(self) -> int:
        """Train and print how to use the result."""
        from wne_jax.cli.training_run import train
        from wne_jax.training import Diverged

        try:
            with self.machine.joined():  # before any use of JAX
                train(self)
        except Diverged as error:
            print_line("error", error)
            return 2
        return 0
