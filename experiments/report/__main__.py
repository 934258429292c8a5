"""Collect all results in one page: the paper's tables and figures with ours, and the command of each.

Reads the folders of experiments (`config.json`, `records.csv`, figures) and of trained networks; no result is
recomputed. Writes FILE.html, a single file that loads nothing else. Missing experiments are listed with the
command that runs them.

    python -m experiments.report                                       # results in runs/
    python -m experiments.report --results experiments/results
"""

from dataclasses import dataclass
from pathlib import Path

from experiments.harness import run
from experiments.report import counts, page
from experiments.report.gather import find
from experiments.report.sections import assign
from wne_jax._internal.files import write_atomically


@dataclass(frozen=True)
class Options:
    """Options of the command line."""

    results: Path = Path("runs")
    """Folder that contains the results folders."""
    networks: Path | None = None
    """A further folder of trained networks, besides those inside the results."""
    output: Path | None = None
    """The page to write (default: report.html in the folder of results)."""
    max_megabytes: float = 8.0
    """Maximum size of a figure in megabytes; larger ones are only named."""


def main(options: Options) -> None:
    """Collect the results and write the page."""
    runs, networks = find(options.results, options.networks)
    sections = assign(runs)
    path = (options.output or options.results / "report.html").with_suffix(".html")
    text = page.render(sections, networks, max_bytes=int(1e6 * options.max_megabytes))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    whole = counts.overall(sections)
    print(f"{whole.there} of {len(sections)} experiments have results: {whole.runs} runs")
    print(
        f"{whole.compared} numbers are compared with published ones, {whole.absent} cells were not run"
    )
    print(f"The page is {path}")


if __name__ == "__main__":
    run(main, Options, __doc__)
