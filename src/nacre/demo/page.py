"""The demo's last page."""

from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from nacre.evaluate.matrix import Matrix, average_accuracy, bwt
from nacre.evaluate.pictures import heat_table

if TYPE_CHECKING:
    from nacre.demo.run import Story


def show(story: "Story") -> None:
    """Print what was measured, on one page of 100 columns."""
    console = Console(highlight=False, width=min(100, Console().width))
    plain, kept, learned = story.plain, story.kept, story.learned
    assert plain.matrix is not None
    assert kept.matrix is not None
    assert learned is not None
    parts: list[RenderableType] = [
        Text("1  plain fine-tuning", style="bold"),
        heat_table(plain.matrix),
        Text(f"   {_figures(plain.matrix)}"),
        Text(f"   gate: {plain.verdict.outcome}, exit code {plain.exit_code}; not promoted", style="red"),
        Text(""),
        Text("2  the same increments, nacre evolve with its defaults", style="bold"),
        heat_table(kept.matrix),
        Text(f"   {_figures(kept.matrix)}"),
        Text(f"   gate: {kept.verdict.outcome}; version {kept.version.number} is champion", style="green"),
        Text(""),
        Text("3  feedback, and back again", style="bold"),
        _conversation(story),
        Text(
            f"   served without a restart: switched {story.switch_s['promotion']:.2f} s after the promotion, "
            f"{story.switch_s['rollback']:.2f} s after the rollback"
        ),
        Text(""),
        _claims(story),
        Text(f"\n{story.seconds:.0f} s in all; heat map: {story.picture}"),
    ]
    console.print(Panel(Group(*parts), title="nacre demo", title_align="left"))


def _figures(matrix: Matrix) -> str:
    accuracy, transfer = average_accuracy(matrix), bwt(matrix)
    return f"average accuracy {accuracy.value:.3f}, BWT {transfer.value:+.3f} ({transfer.definition})"


def _conversation(story: "Story") -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("  ", "question", story.question)
    labels = {
        "before": f"version {story.kept.version.number}",
        "corrected": f"version {story.learned.version.number if story.learned else '-'}, after the correction",
        "rolled back": f"version {story.after_rollback}, rolled back",
    }
    for name, label in labels.items():
        table.add_row("  ", label, story.answers[name])
    return table


def _claims(story: "Story") -> Table:
    table = Table.grid(padding=(0, 1))
    for claim, shown in story.claims().items():
        table.add_row("[green]✓[/]" if shown else "[red]✗[/]", claim if shown else f"{claim}: not in this run")
    return table
