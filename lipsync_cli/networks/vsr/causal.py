"""A transformers causal language model, to lean the beam search towards likely sentences, a word at a time.

Its pieces of words are not the reader's, so it speaks at the ends of words (word-level shallow fusion): the unit
that begins the next word, or ends the sentence, carries what the model thinks of the word before it. A whole
sentence has then gained exactly its log probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from lipsync_cli.core.errors import UsageError, WeightsError
from lipsync_cli.hub.download import HUB_SOURCE, cache_folder
from lipsync_cli.networks.vsr.units import BOUNDARY, Units

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEPT_TEXTS = 20_000  # whose probabilities are remembered: beginnings of sentences come again and again


class CausalModel:
    """A language model of `beam.LanguageModel`'s form.  Texts are given to it in lower case."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any, units: Units) -> None:
        """Raises: WeightsError when the tokenizer has nothing to begin or end a text with."""
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None or tokenizer.eos_token_id is None:
            raise WeightsError(
                "The tokenizer of the language model has no token that begins or ends a text.",
                "give a model that writes whole texts, such as GPT-2",
            )
        self._model, self._tokenizer, self._units = model.eval(), tokenizer, units
        self._start, self._end = start, tokenizer.eos_token_id
        self._begins = torch.tensor([name.startswith(BOUNDARY) for name in units.names])
        self._known: dict[str, tuple[float, float]] = {}

    def __call__(self, prefixes: Sequence[Sequence[int]]) -> torch.Tensor:
        """What each next unit gains after each prefix (first the start unit): (N, units), 0 or less."""
        said = [self._units.decode(prefix[1:]).lower().split() for prefix in prefixes]
        self._learn({" ".join(words[:n]) for words in said for n in (len(words), len(words) - 1) if n >= 0})
        gains = torch.zeros(len(prefixes), len(self._units))
        for row, (prefix, words) in enumerate(zip(prefixes, said, strict=True)):
            text, end = self._known[" ".join(words)]
            counted = (
                not words or self._units.names[prefix[-1]] == BOUNDARY
            )  # nothing, or a word begun: no more
            word = 0.0 if counted else text - self._known[" ".join(words[:-1])][0]
            gains[row, self._begins] = word
            gains[row, self._units.end] = word + end
        return gains.clamp(max=0)  # a longer text is likelier only where the tokenizer cuts it otherwise

    def _learn(self, texts: set[str]) -> None:
        """Log probabilities of texts, and of their ending there, in one batch."""
        if len(self._known) > KEPT_TEXTS:
            self._known.clear()
        new = sorted(texts - self._known.keys())
        if not new:
            return
        tokens = [
            [self._start, *self._tokenizer(text, add_special_tokens=False)["input_ids"], self._end]
            for text in new
        ]
        longest = max(map(len, tokens))
        padded = torch.tensor([row + [self._end] * (longest - len(row)) for row in tokens])
        real = torch.tensor([[i < len(row) for i in range(longest)] for row in tokens]).long()
        device = self._model.device
        with torch.inference_mode():
            logits = self._model(input_ids=padded.to(device), attention_mask=real.to(device)).logits
        log_probs = logits[:, :-1].float().log_softmax(-1).gather(2, padded[:, 1:, None].to(device))[..., 0]
        for text, row, values in zip(new, tokens, log_probs.cpu().double(), strict=True):
            self._known[text] = float(values[: len(row) - 2].sum()), float(values[len(row) - 2])


def load_causal(source: str, units: Units, device: torch.device) -> CausalModel:
    """A language model from a folder, or from the Hugging Face cache as `hf:org/repo@commit`; downloads nothing.

    Raises: WeightsError when it is not on this machine, is none, or its weights do not fit it; UsageError for an `hf:`
    source without a full commit.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    folder = _folder(source)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        model, loading = loaded
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{source}: not a causal language model that transformers can load ({reason}).",
            "give a folder with config.json, model.safetensors and its tokenizer",
        ) from error
    wrong = sorted(map(str, [*loading["missing_keys"], *loading["mismatched_keys"]]))
    if wrong:
        raise WeightsError(
            f"{source}: the weights lack {wrong[0]} ({len(wrong)} in all).", "give weights of a causal model"
        )
    return CausalModel(model.to(device), tokenizer, units)


def _folder(source: str) -> str:
    if not source.startswith("hf:"):
        return source
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    match = HUB_SOURCE.fullmatch(source)
    if not match:
        raise UsageError(
            f"'{source}' is not pinned.", "write hf:org/repo@COMMIT, with all 40 digits of the commit"
        )
    repo, commit = match["repo"], match["commit"]
    try:
        return snapshot_download(repo, revision=commit, cache_dir=cache_folder(), local_files_only=True)
    except LocalEntryNotFoundError as error:
        raise WeightsError(
            f"{source}: the language model is not on this machine.", f"hf download {repo} --revision {commit}"
        ) from error
