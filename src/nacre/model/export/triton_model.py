"""Answers questions in Triton's Python backend. Copied beside a version's weights; needs torch and transformers alone.

Inputs: ``text_input``, a question; ``max_tokens`` and ``temperature`` may be left out. Output: ``text_output``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # Triton's own, only there
from transformers import AutoModelForCausalLM, AutoTokenizer


class TritonPythonModel:
    """What Triton makes one of for each instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the weights, which lie where the parameter `weights` says, from the model's folder on."""
        parameters = json.loads(args["model_config"])["parameters"]
        folder = Path(args["model_repository"]) / parameters["weights"]["string_value"]
        self._default_tokens = int(parameters["max_tokens"]["string_value"])
        self._stop_ids = json.loads(parameters["stop_ids"]["string_value"])
        gpu = args.get("model_instance_kind") == "GPU"
        self._device = f"cuda:{args['model_instance_device_id']}" if gpu else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto" if gpu else torch.float32)
        self._model: Any = model.to(self._device).eval()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request; what goes wrong with one is told to its sender alone."""
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        try:
            text = self._answer(
                _value(request, "text_input").decode(),
                int(_value(request, "max_tokens", self._default_tokens)),
                float(_value(request, "temperature", 0.0)),
            )
        except (ValueError, RuntimeError) as error:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error)))
        told = pb_utils.Tensor("text_output", np.array([text.encode()], dtype=np.object_))
        return pb_utils.InferenceResponse(output_tensors=[told])

    def _answer(self, question: str, max_tokens: int, temperature: float) -> str:
        chat = [{"role": "user", "content": question}]
        prompt = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids_1T = torch.tensor([self._tokenizer(prompt, add_special_tokens=False)["input_ids"]], device=self._device)
        drawn = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        with torch.inference_mode():
            whole_1T = self._model.generate(
                input_ids=ids_1T,
                attention_mask=torch.ones_like(ids_1T),
                max_new_tokens=max_tokens,
                eos_token_id=self._stop_ids or None,
                pad_token_id=self._tokenizer.pad_token_id,
                **drawn,
            )
        return str(self._tokenizer.decode(whole_1T[0, ids_1T.shape[1] :], skip_special_tokens=True))


def _value(request: Any, name: str, default: Any = None) -> Any:
    """The only element of an input."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is not None:
        return tensor.as_numpy().reshape(-1)[0]
    if default is None:
        raise ValueError(f"the input {name} is missing")
    return default
