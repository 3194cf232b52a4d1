"""Documents beside a model, for tests: questions that people asked."""

from nacre.base.clock import now
from nacre.cycle.workspace import Workspace
from nacre.records import ChatTurn, Interaction
from workspace_kit import Place


def people_asked(place: Place, *questions: str) -> None:
    """Put questions into the ledger, one interaction each, as a server would."""
    with Workspace.open(place.root) as space:
        start = len(space.ledger.releases.observed.latest(100))
        space.ledger.add_interactions(
            [
                Interaction(
                    id=f"q{start + number}",
                    time=now(),
                    version=1,
                    arm="champion",
                    session="u",
                    messages=(ChatTurn(role="user", content=text),),
                    answer="?",
                    finish="stop",
                    prompt_tokens=1,
                    answer_tokens=1,
                    latency_s=0.1,
                )
                for number, text in enumerate(questions)
            ]
        )
