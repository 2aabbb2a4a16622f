"""A causal language model that has learnt nothing, in the files of transformers."""

from __future__ import annotations

from pathlib import Path


def write_random_language_model(folder: Path) -> Path:
    """A GPT-2 of one layer over single bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    end = "<|endoftext|>"
    alphabet = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**alphabet, end: len(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(alphabet) + 1,
        n_positions=64,
        n_embd=16,
        n_layer=1,
        n_head=2,
        initializer_range=0.5,  # so that it has likes and dislikes
        eos_token_id=len(alphabet),
        bos_token_id=len(alphabet),
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
