"""Tiny random models, made in a second: plumbing is tested on them, quality on the real one."""

from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "initializer_range": 0.3,  # large enough that the next token depends on the text before it
}


def tiny_model(folder: Path, architecture: str = "llama", *, stops: bool = False, turn_end: str = "<|im_end|>") -> Path:
    """A random model and a byte-level tokenizer with a chat template, saved as transformers saves them.

    With `stops`, its replies end after a few letters. The template ends a turn with `turn_end`, which may be a token of its
    own: the tokenizer's eos_token is always <|im_end|>.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = dict.fromkeys([*letters, "<|im_start|>", "<|im_end|>", turn_end])
    vocabulary = {letter: i for i, letter in enumerate(specials)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", turn_end],
    )
    tokenizer.chat_template = TEMPLATE.replace("<|im_end|>", turn_end)
    end = tokenizer.eos_token_id
    ends = {"bos_token_id": None, "eos_token_id": end, "pad_token_id": end}
    window = {"sliding_window": None} if architecture == "mistral" else {}
    config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), head_dim=16, **ends, **window, **SIZES)
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config)
    if stops:  # one letter in six ends a reply: a random model would hardly ever write the end-of-turn token
        model.generation_config.eos_token_id = [end, *range(0, end, 6)]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_adapter(model: Path, folder: Path, *, seed: int = 1, **options: Any) -> Path:
    """A random LoRA adapter large enough to change replies."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM", **options)
    adapted: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), config)
    adapted.save_pretrained(str(folder))
    return folder
