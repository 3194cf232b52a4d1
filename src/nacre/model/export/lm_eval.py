"""What lm-evaluation-harness loads: a Hugging Face folder, and the command line that asks it."""

from pathlib import Path

from nacre.base.files import atomic_write
from nacre.model.export import Reader, Source
from nacre.model.export.hf import HuggingFace
from nacre.model.load import load_tokenizer

MODEL, TASKS, COMMAND = "model", "tasks", "lm-eval.sh"
_SCRIPT = """#!/bin/sh
# pip install 'lm-eval[hf]'; what follows the name of the script is handed on.
cd "$(dirname "$0")" || exit 1
exec lm_eval --model hf --model_args pretrained={model}{more}{tasks} "$@"
"""


class LmEval:
    """Three things: `model/`, the script `lm-eval.sh`, and `tasks/`, which whoever knows the dev rows puts beside."""

    precisions = HuggingFace.precisions

    def write(self, source: Source, folder: Path, precision: str) -> list[str]:
        """See `nacre.model.export.Form`."""
        (folder / MODEL).mkdir()
        notes = HuggingFace().write(source, folder / MODEL, precision)
        self.command(source, folder)
        return notes

    def command(self, source: Source, folder: Path) -> None:
        """Write the script anew, for the tasks that lie there."""
        tokenizer = load_tokenizer(source.weights)
        starts = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        own = (folder / TASKS).is_dir()
        text = _SCRIPT.format(
            model=MODEL,
            more=",add_bos_token=False" if starts else "",
            tasks=f" --include_path {TASKS} --tasks nacre_dev" if own else "",
        )
        atomic_write(folder / COMMAND, text)
        (folder / COMMAND).chmod(0o755)

    def reader(self, source: Source, folder: Path) -> Reader:
        """As the harness loads it: by transformers."""
        return HuggingFace().reader(source, folder / MODEL)
