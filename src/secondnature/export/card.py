"""The model card: the verdict first, then what was measured, how it was made, how to serve it, and its limits."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from secondnature.export.hub import Base
from secondnature.export.markdown import cell, fenced, table
from secondnature.export.results import contamination, number, part, regression, results
from secondnature.recipe import Recipe
from secondnature.resolve import kind_of
from secondnature.techniques.direct import direct_prompt
from secondnature.types import Example, Message

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that `vllm serve --max-lora-rank` takes

TRAINED = {"examples": "d", "steps": "d", "tokens": ",d", "loss_first": ".3f", "loss_last": ".3f", "seconds": ".0f"}


@dataclass(frozen=True)
class Card:
    """What a card tells. `report` and `recipe` are cleaned of what must not leave the machine."""

    name: str
    report: Mapping[str, Any]
    recipe: Recipe
    base: Base
    rank: int
    merged: str | None  # what came of comparing the merged model with the adapter; None for an adapter
    gguf: str | None
    data: Sequence[tuple[str, str]]  # the files and datasets that the prompts come from, each with its digest
    datasets: Sequence[str]  # on the hub
    repo: str | None
    dataset_repo: str | None


def model_card(card: Card) -> str:
    """The card as Markdown with its metadata as YAML, as the hub reads it."""
    report = card.report
    parts = [
        f"# {card.name}",
        _opening(card),
        f"**Verdict: {cell(report['verdict'])}.** {cell(report['reason'], 1000)}",
        *(f"- {cell(caveat, 600)}" for caveat in list[str](report.get("caveats") or [])),
        f"**Next**, for whoever made it: {report['next_step']}",
        f"## Results\n\n{results(report)}",
        *_section("Other abilities", regression(report)),
        *_section("Were the test prompts seen before?", contamination(report)),
        f"## How it was made\n\n{_method(card)}",
        f"## How to serve it\n\n{_serving(card)}",
        f"## Where the prompts come from\n\n{_provenance(card)}",
        f"## Training\n\n{_training(card)}",
        f"## Limits\n\n{_limits(card)}",
        f"## Files\n\n{_files(card)}",
    ]
    metadata = yaml.safe_dump(_metadata(card), sort_keys=False, allow_unicode=True).strip()
    return f"---\n{metadata}\n---\n\n" + "\n\n".join(parts) + "\n"


def _section(title: str, text: str | None) -> list[str]:
    return [f"## {title}\n\n{text}"] if text is not None else []


def _metadata(card: Card) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if card.base.licence is not None:
        found["license"] = card.base.licence
    if card.base.public.on_hub:
        relation = "finetune" if card.merged is not None else "adapter"
        found |= {"base_model": card.base.name, "base_model_relation": relation}
    found["library_name"] = "transformers" if card.merged is not None else "peft"
    found["pipeline_tag"] = "text-generation"
    found["tags"] = ["second-nature", "system-2-distillation", "self-consistency", "lora", "arxiv:2407.06023"]
    if named := [*card.datasets, *([card.dataset_repo] if card.dataset_repo else [])]:
        found["datasets"] = named
    if entries := _metrics(card.report):
        dataset = {"name": f"{card.report['task']}, {card.report['part']} part", "type": card.name}
        result = {"task": {"type": "text-generation"}, "dataset": dataset, "metrics": entries}
        found["model-index"] = [{"name": card.name, "results": [result]}]
    return found


def _metrics(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    distilled = part(report["systems"], "distilled")
    names = {"accuracy": "accuracy", "agreement_with_system2": "agreement with System 2"}
    return [
        {"type": key, "name": name, "value": distilled[key]}
        for key, name in names.items()
        if distilled.get(key) is not None
    ]


def _opening(card: Card) -> str:
    kind = "A model" if card.merged is not None else "A LoRA adapter"
    return (
        f"{kind} that answers at once what `{_code(card.base.name)}` answers otherwise only by way of the technique "
        f"`{_code(card.report['technique'])}`. It was made with Second Nature by the method of *Distilling System 2 into "
        "System 1* (Yu, Xu, Weston and Kulikov, 2024, [arXiv 2407.06023](https://arxiv.org/abs/2407.06023)), without labels "
        f"and without another model.\n\nBase: {_base(card)}"
    )


def _base(card: Card) -> str:
    licence = (
        f" Its licence: {cell(card.base.licence)}, which holds for this too."
        if card.base.licence
        else " Its licence is unknown here: look it up before you use this."
    )
    return f"`{_code(card.base.name)}`. {card.base.note}{licence}"


def _method(card: Card) -> str:
    report, settings = card.report, card.report["settings"]
    lines = [
        f"The base answered each training prompt up to {settings['n']} times with the technique "
        f"`{_code(report['technique'])}` (temperature {settings['temperature']:g}, top-p {settings['top_p']:g}, at most "
        f"{settings['max_tokens']} tokens a call). A prompt was kept where at least {settings['min_agreement']:g} of the "
        "samples gave the same answer. Then the reasoning was dropped, and the base was fine-tuned to give the technique's "
        "final output to the prompt."
    ]
    curation = report.get("curation")
    if curation:
        lines += [
            "",
            f"{curation['kept']} of {curation['prompts']} prompts were kept, from {curation['samples']} samples in "
            f"{curation['calls']} calls ({curation['tokens_completion']:,} tokens written).",
        ]
        if curation.get("discarded"):
            rows = [[cell(str(reason)), f"{count:,}"] for reason, count in curation["discarded"].items()]
            lines += ["", table(("discarded for", "prompts"), rows)]
        if curation.get("label_precision") is not None:
            single = curation.get("label_precision_single")
            lines += [
                "",
                f"Measured with the labels afterwards, {curation['label_precision']:.3f} of the kept answers are right"
                + (f"; of single samples, {single:.3f} are." if single is not None else "."),
            ]
    controls = [name for name in ("control_unfiltered", "control_system1_self") if report["systems"].get(name)]
    told = (
        "Controls, in the table above: System 2 distilled without the filter, and System 1 distilled from its own filtered "
        "answers. What they reach as well is not owed to the filter, or to System 2."
        if controls
        else "No controls were trained (System 2 unfiltered, System 1 from its own answers), so it is not known how much of "
        "the difference is owed to System 2 and to the filter."
    )
    return "\n".join([*lines, "", told])


def _serving(card: Card) -> str:
    parts = ["These commands and programs are for this folder: begin there."]
    if card.repo is not None:
        fetch = f"hf download {card.repo} --local-dir {card.name}\ncd {card.name}"
        parts = ["Fetch it, and begin in its folder:\n\n" + fenced(fetch, "bash")]
    if card.merged is not None:
        parts += [
            "With vLLM:\n\n" + fenced(f"vllm serve . --served-model-name {card.name}", "bash"),
            f"With transformers:\n\n{fenced(_snippet('.', None, card), 'python')}",
        ]
    else:
        base = shlex.quote(card.base.name)
        if not card.base.public.on_hub:
            parts.append(f"`{_code(card.base.name)}` in them is the folder of the base: put it here.")
        rank = next((rank for rank in RANKS if rank >= card.rank), None)
        command = f"vllm serve {base} --enable-lora --lora-modules {card.name}=. --max-lora-rank {rank}"
        parts += [
            "With vLLM, where the model to ask for is then called `" + card.name + "`:\n\n" + fenced(command, "bash")
            if rank is not None
            else f"vLLM serves no adapter of rank {card.rank}: merge it (`secondnature export RUN --merged`).",
            f"With transformers and PEFT:\n\n{fenced(_snippet(card.base.name, '.', card), 'python')}",
        ]
    if card.gguf is not None:
        ollama = (
            f'ollama create {card.name.lower()} -f Modelfile\nollama run {card.name.lower()} "the prompt, as it is"'
        )
        parts += [
            "With llama.cpp:\n\n" + fenced(f"llama-server --model {card.gguf} --jinja --temp 0", "bash"),
            "With Ollama; `Modelfile` has the chat template, and that it answers greedily:\n\n"
            + fenced(ollama, "bash"),
        ]
    parts.append(_format(card))
    return "\n\n".join(parts)


def _snippet(model: str, adapter: str | None, card: Card) -> str:
    revision = f", revision={json.dumps(card.base.public.revision)}" if card.base.public.revision and adapter else ""
    opened = f"AutoModelForCausalLM.from_pretrained({json.dumps(model)}{revision})"
    if adapter is not None:
        opened = f"PeftModel.from_pretrained({opened}, {json.dumps(adapter)})"
    lines = [
        *(["from peft import PeftModel"] if adapter is not None else []),
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({json.dumps(model)}{revision})",
        f"model = {opened}",
        f"messages = {json.dumps([turn.as_dict() for turn in student_prompt(card.recipe)], ensure_ascii=False)}",
        'inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")',
        f"reply = model.generate(**inputs, do_sample=False, max_new_tokens={card.report['settings']['max_tokens']})",
        "print(tokenizer.decode(reply[0, inputs['input_ids'].shape[1]:], skip_special_tokens=True))",
    ]
    return "\n".join(lines)


def student_prompt(recipe: Recipe) -> tuple[Message, ...]:
    """The conversation that the distilled model was trained on, around a prompt."""
    system = recipe.data.system if recipe.data is not None else None
    messages = (*([Message("system", system)] if system else []), Message("user", "the prompt, as it is"))
    return direct_prompt(kind_of(recipe).formed(Example("", messages)), **recipe.system1.options)


def system_of(recipe: Recipe) -> str | None:
    """The system message that the distilled model was trained with."""
    first = student_prompt(recipe)[0]
    return first.content if first.role == "system" else None


def _format(card: Card) -> str:
    data, examples = card.recipe.data, card.recipe.system1.demonstrations
    text = (
        "It was trained on the prompt in the base's own chat template, with nothing added but what is said here. Ask it so, "
        "greedily (temperature 0). Where the template has a switch for a thinking mode, it was off (`enable_thinking=False`)."
    )
    if system := system_of(card.recipe):
        text += "\n\nBefore every prompt stood this system message:\n\n" + fenced(system)
    if examples:
        text += (
            f"\n\nAnd {len(examples)} worked examples, as earlier turns: they are in the program above and in `recipe.yaml`, "
            "under `system1`."
        )
    if data is not None and data.template:
        text += "\n\nThe prompts were made of columns of the data by this template:\n\n" + fenced(data.template)
    return text


def _provenance(card: Card) -> str:
    source = card.report.get("source")
    lines = [cell(source, 600)] if source else []
    if card.data:
        lines.append(table(("file or dataset", "SHA-256"), [[cell(name), digest] for name, digest in card.data]))
    lines.append(
        "Train, dev and test part have no group of prompts in common. No label was used for making this; where there are "
        "any, they were used for measuring."
    )
    return "\n\n".join(lines)


def _training(card: Card) -> str:
    training, options = part(card.report, "training"), card.recipe.train
    settings = options.model_dump(exclude={"base", "save_steps", "seeds", "report_to"}, exclude_none=True)
    rows = [[name, cell(f"{v:g}" if isinstance(v, float) else str(v))] for name, v in settings.items()]
    rows += [
        [name.replace("_", " "), number(training[name], form)]
        for name, form in TRAINED.items()
        if training.get(name) is not None
    ]
    parts = [
        "LoRA (Hu et al., 2021, arXiv 2106.09685) on all linear layers; the loss is on the answer alone.",
        table(("setting", "value"), rows),
    ]
    for title, found in (("Versions", part(card.report, "versions")), ("Hardware", part(card.report, "hardware"))):
        if found:
            parts.append(f"{title}: " + ", ".join(f"{cell(str(k))} {cell(str(v))}" for k, v in found.items()) + ".")
    return "\n\n".join(parts)


def _limits(card: Card) -> str:
    distilled = part(card.report["systems"], "distilled")
    lines = [
        "The answers that it learned are self-consistent, which is not to say true. What the base gets wrong consistently, "
        "this gets wrong too, and at once.",
    ]
    if not distilled:
        lines.append("It was not measured. Do so before you use it.")
    elif distilled.get("accuracy") is None:
        lines.append(
            "There were no labels: agreement with System 2 was measured, and a consistent error is invisible in it."
        )
    lines += [
        "The figures hold for prompts like those of the test part. Other uses are out of scope"
        + ("." if card.report.get("regression") else ", and what it does to other abilities was not measured."),
        "It gives no reasons: an answer cannot be checked by its steps.",
    ]
    if not card.report.get("seeds"):
        lines.append("One training run was made; another seed would give other figures.")
    if card.merged is not None:
        lines.append(card.merged)
    return "\n".join(f"- {line}" for line in lines)


def _files(card: Card) -> str:
    weights = (
        "`model.safetensors` (or its parts), `config.json`, the tokenizer and the chat template: base and adapter in one."
        if card.merged is not None
        else "`adapter_model.safetensors`, `adapter_config.json`: the adapter, as PEFT and vLLM read it."
    )
    lines = [
        weights,
        *(
            ["`" + card.gguf + "`: base and adapter in one, for llama.cpp; `Modelfile`: for Ollama."]
            if card.gguf
            else []
        ),
        "`recipe.yaml`: everything that decided the run. `report.json`, `report.html`: all that was measured, with prompts "
        "and answers side by side.",
        "`dataset/` (where it came along): what it was trained on, and what was discarded."
        if card.dataset_repo is None
        else f"What it was trained on: [{card.dataset_repo}](https://huggingface.co/datasets/{card.dataset_repo}).",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _code(text: str) -> str:
    """Text for a code span: on one line, without the backtick that would end it."""
    return " ".join(text.replace("`", "'").split())
