"""`python -m wne_jax check`: whether a model has the equivariance that it claims."""

from dataclasses import dataclass

from wne_jax.cli.model_options import Model


@dataclass(frozen=True)
class Check(Model):
    """Measure the error of f(a y + b) = a f(y) + b, and check the equivariance that the model claims."""

    size: int = 64
    """Side of the square images, in pixels."""
    seed: int = 0
    """Random seed of initial parameters, crops and noise."""

    def run(self) -> int:
        """Print the measurements; return 0 if the claim holds, 1 if it does not."""
        from wne_jax.symmetry.report import measure

        denoiser = self.load()
        computed = denoiser.config.options.get("dtype") if denoiser.config else None
        report = measure(
            denoiser.function,
            claim=denoiser.symmetry,
            channels=denoiser.channels,
            conditioned=denoiser.conditioned,
            ndim=denoiser.ndim,
            size=self.size,
            seed=self.seed,
            compute_dtype=computed or "float32",
        )
        print(report)
        return 0 if report.kept else 1
