"""Model repositories for Triton: https://docs.nvidia.com/deeplearning/triton-inference-server

weights/                         the version, in Hugging Face layout
vllm/NAME/config.pbtxt           tritonserver --model-repository FOLDER/vllm    (the vLLM backend)
vllm/NAME/1/model.json
python/NAME/config.pbtxt         tritonserver --model-repository FOLDER/python  (the Python backend)
python/NAME/1/model.py
"""

import json
from pathlib import Path

from nacre.base.files import atomic_write
from nacre.model.chat import stop_ids
from nacre.model.export import Reader, Source
from nacre.model.export.hf import HuggingFace
from nacre.model.load import load_tokenizer, positions

WEIGHTS = "weights"
_MAX_TOKENS = 256
_VLLM = """name: "{name}"
backend: "vllm"
instance_group [
  {{
    count: 1
    kind: KIND_MODEL
  }}
]
"""
_PYTHON = """name: "{name}"
backend: "python"
max_batch_size: 0
input [
  {{
    name: "text_input"
    data_type: TYPE_STRING
    dims: [ 1 ]
  }},
  {{
    name: "max_tokens"
    data_type: TYPE_INT32
    dims: [ 1 ]
    optional: true
  }},
  {{
    name: "temperature"
    data_type: TYPE_FP32
    dims: [ 1 ]
    optional: true
  }}
]
output [
  {{
    name: "text_output"
    data_type: TYPE_STRING
    dims: [ 1 ]
  }}
]
instance_group [
  {{
    count: 1
    kind: KIND_AUTO
  }}
]
parameters {{
  key: "weights"
  value: {{ string_value: "../../{weights}" }}
}}
parameters {{
  key: "max_tokens"
  value: {{ string_value: "{max_tokens}" }}
}}
parameters {{
  key: "stop_ids"
  value: {{ string_value: "{stop_ids}" }}
}}
"""


class Triton:
    """Two repositories over one folder of weights."""

    precisions = HuggingFace.precisions

    def write(self, source: Source, folder: Path, precision: str) -> list[str]:
        """See `nacre.model.export.Form`."""
        (folder / WEIGHTS).mkdir()
        notes = HuggingFace().write(source, folder / WEIGHTS, precision)
        name, defaults = source.name, source.defaults
        for backend, text in (("vllm", _VLLM), ("python", _PYTHON)):
            filled = text.format(
                name=name,
                weights=WEIGHTS,
                max_tokens=int(defaults.get("max_tokens", _MAX_TOKENS)),
                stop_ids=json.dumps(sorted(stop_ids(load_tokenizer(source.weights)))),
            )
            atomic_write(folder / backend / name / "config.pbtxt", filled)
        atomic_write(folder / "vllm" / name / "1" / "model.json", json.dumps(self._engine(source), indent=2) + "\n")
        model = Path(__file__).with_name("triton_model.py").read_text(encoding="utf-8")
        atomic_write(folder / "python" / name / "1" / "model.py", model)
        where = f"vllm/{name}/1/model.json"
        return [*notes, f"{where} names {WEIGHTS}/ by its place on this machine: change it where Triton sees another"]

    def _engine(self, source: Source) -> dict[str, object]:
        """vLLM's arguments."""
        found: dict[str, object] = {"model": str(source.place / WEIGHTS), "gpu_memory_utilization": 0.9}
        context = positions(source.weights)
        return found | ({"max_model_len": context} if context else {})

    def reader(self, source: Source, folder: Path) -> Reader:
        """The weights, loaded by transformers as the Python backend does."""
        return HuggingFace().reader(source, folder / WEIGHTS)
