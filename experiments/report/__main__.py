"""Gather what was run into one page: the paper's tables and figures beside ours, and how each was made.

Reads the folders of experiments (`config.json`, `records.csv`, figures) and of trained networks, and computes
no result anew. Writes FILE.html, one file that needs no network. What was not run says so, with the command
that would make it.

    python -m experiments.report                                       # of runs/
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
    """Folder of the experiments' folders."""
    networks: Path | None = None
    """A further folder of trained networks, beside those inside the folder of experiments."""
    output: Path | None = None
    """The page that is written (default: report.html in the folder of experiments)."""
    max_megabytes: float = 8.0
    """Larger figures are named in place of shown."""


def main(options: Options) -> None:
    """Gather, then write the page."""
    runs, networks = find(options.results, options.networks)
    sections = assign(runs)
    path = (options.output or options.results / "report.html").with_suffix(".html")
    text = page.render(sections, networks, max_bytes=int(1e6 * options.max_megabytes))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    whole = counts.overall(sections)
    print(f"{whole.there} of {len(sections)} experiments have results: {whole.runs} runs")
    print(
        f"{whole.compared} numbers stand beside published ones, {whole.absent} cells were not run"
    )
    print(f"The page is {path}")


if __name__ == "__main__":
    run(main, Options, __doc__)
