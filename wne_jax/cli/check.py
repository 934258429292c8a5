"""`python -m wne_jax check`: whether a model commutes with what it claims to."""

from dataclasses import dataclass

from wne_jax.cli.model_options import Model


@dataclass(frozen=True)
class Check(Model):
    """Measure by how much a denoiser misses f(a y + b) = a f(y) + b, and whether it keeps what it claims."""

    size: int = 64
    """Side of the square images, in pixels."""
    seed: int = 0
    """Seed of all that is drawn: initial parameters, crops, noise."""

    def run(self) -> int:
        """Print the measurements; 0 if the claim is kept, 1 if it is broken."""
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
