# pyright: basic
# (neither transformers nor OpenVINO is typed)
"""A checkpoint as an OpenVINO model, converted once and cached: by `openvino.convert_model` alone, without an exporter.

An adapter is merged into a copy of the converted model's weights, so that it runs as fast as the base.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Generator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from secondnature.engines.loading import check_fits, lora_updates, open_model, quiet, read_config
from secondnature.engines.models import PARTIAL, ModelFiles, cache_folder, to_stderr
from secondnature.files import remove_leftovers, scratch_folder
from secondnature.types import UserError

# Architectures whose exported model is known to give the same greedy tokens as transformers (tests/test_openvino.py).
KNOWN = ("gemma", "llama", "mistral", "qwen2", "qwen3")
MODEL, WEIGHTS = "openvino_model.xml", "openvino_model.bin"
TRACED = "self.model"  # where _traceable has the model: names of its weights in the exported one begin so


def unsupported(files: ModelFiles) -> str | None:
    """Why the model cannot be exported, or None where it can."""
    config = read_config(files.path)
    kind = config.get("model_type")
    if kind not in KNOWN:
        return f"the architecture {kind!r} is not one of {', '.join(KNOWN)}"
    if config.get("sliding_window") and config.get("use_sliding_window", kind == "mistral"):
        return "it attends within a sliding window"
    return None


def export(files: ModelFiles, say: Callable[[str], None] = to_stderr, *, dtype: str = "bfloat16") -> Path:
    """The folder of the exported model, to compute in `dtype`.

    Its weights are stored as the checkpoint's, but in float32 where that is asked of a 16-bit one: OpenVINO cannot keep
    keys and values of a 16-bit model in float32. Raises UserError where the architecture is not one that is known to work.
    """
    if (reason := unsupported(files)) is not None:
        raise UserError(f"engine: openvino cannot run this model: {reason}; use engine: {{kind: transformers}}")
    made_by = [files.digest, version("openvino"), version("transformers"), hashlib.sha256(_source()).hexdigest()]
    config = read_config(files.path)
    widened = dtype == "float32" and (config.get("dtype") or config.get("torch_dtype")) in ("bfloat16", "float16")
    made_by += ["float32"] if widened else []
    name = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]
    target = cache_folder() / "openvino" / name
    remove_leftovers(target.parent, PARTIAL)
    if (target / MODEL).exists():
        return target
    say("engine: converting the model for OpenVINO, once")
    with scratch_folder(target.parent, PARTIAL) as partial:
        _convert(files.path, partial, "float32" if widened else "auto")
        try:
            partial.rename(target)
        except OSError:
            if not (target / MODEL).exists():  # otherwise another process was faster
                raise
    return target


@contextlib.contextmanager
def merged(model: Path, adapter: Path) -> Generator[Path]:
    """A copy of the exported model with the adapter in its weights, in their own precision; removed afterwards.

    Raises UserError where the adapter changes something that the model does not have.
    """
    import numpy as np
    import torch

    types = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    with scratch_folder(model.parent, PARTIAL) as folder:
        for file in model.iterdir():
            shutil.copyfile(file, folder / file.name)
        tree = ElementTree.parse(model / MODEL)
        constants = [layer for layer in tree.iter("layer") if layer.get("type") == "Const"]
        places = {layer.get("name"): layer.find("data") for layer in constants}
        owners = Counter(place.get("offset") for place in places.values() if place is not None)
        with (folder / WEIGHTS).open("r+b") as weights:
            for layer, update in lora_updates(adapter):
                place = places.get(f"{TRACED}.{layer}.weight")
                if place is None or place.get("element_type") not in types:
                    raise UserError(
                        f"adapter {adapter}: the model has no weights {layer} that an adapter can be merged into"
                    )
                check_fits(layer, update, [int(size) for size in place.get("shape", "0").split(",")])
                start, size = int(place.get("offset", 0)), int(place.get("size", 0))
                stored = torch.from_numpy(np.fromfile(model / WEIGHTS, np.uint8, size, offset=start))
                own = stored.view(types[place.get("element_type", "")]).view(update.shape)
                if owners[place.get("offset")] > 1:  # equal weights are stored once: these are no longer equal
                    start = weights.seek(0, 2)
                    place.set("offset", str(start))
                weights.seek(start)
                weights.write(update.add_(own).to(own.dtype).view(torch.uint8).numpy().data)
        tree.write(folder / MODEL)
        yield folder


def _source() -> bytes:
    return Path(__file__).read_bytes()


def _convert(path: str, folder: Path, dtype: str) -> None:
    import openvino
    import torch

    quiet()
    model: Any = open_model(path, dtype=dtype, attn_implementation="sdpa").eval()
    layers = model.config.num_hidden_layers
    heads = model.config.num_key_value_heads
    width = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    batch, new, old = 2, 3, 4  # any sizes: they are made dynamic
    past = [torch.zeros(batch, heads, old, width, dtype=model.dtype) for _ in range(2 * layers)]
    ids = torch.ones(batch, new, dtype=torch.long)
    mask = torch.ones(batch, old + new, dtype=torch.long)
    positions = torch.arange(old, old + new).expand(batch, new).contiguous()
    with torch.no_grad(), _silence():
        exported = openvino.convert_model(_traceable(model), example_input=(ids, mask, positions, *past))
    _make_stateful(exported, layers, heads, width)
    openvino.save_model(exported, folder / MODEL, compress_to_fp16=False)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


def _traceable(model: Any) -> Any:
    """The model as a function of tensors alone: ids, mask and positions, then each layer's keys and values."""
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    class Traceable(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, *past: Any) -> Any:
            cache = DynamicCache()
            for keys, values in zip(past[::2], past[1::2], strict=True):
                layer = DynamicLayer()
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys, values
                cache.layers.append(layer)
            new, whole = input_ids.shape[1], attention_mask.shape[1]
            row = torch.arange(new).unsqueeze(1) + (whole - new)
            causal = torch.arange(whole).unsqueeze(0) <= row
            out = self.model(
                input_ids=input_ids,
                attention_mask=causal[None, None] & attention_mask[:, None, None, :].bool(),
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
            layers: list[Any] = cache.layers
            return (out.logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values)))

    return Traceable()


def _make_stateful(exported: Any, layers: int, heads: int, width: int) -> None:
    """Name the model's ends as OpenVINO GenAI expects, make its sizes dynamic, and keep keys and values inside it."""
    import numpy as np
    from openvino import PartialShape, Type, opset13
    from openvino._offline_transformations import apply_make_stateful_transformation

    past = [f"past_key_values.{i}.{part}" for i in range(layers) for part in ("key", "value")]
    present = [f"present.{i}.{part}" for i in range(layers) for part in ("key", "value")]
    inputs = ["input_ids", "attention_mask", "position_ids", *past]
    for port, name in zip(exported.inputs, inputs, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    for port, name in zip(exported.outputs, ["logits", *present], strict=True):
        port.get_tensor().set_names({name})
    tokens, cache = PartialShape([-1, -1]), PartialShape([-1, heads, -1, width])
    shapes = {port: tokens if i < 3 else cache for i, port in enumerate(exported.inputs)}
    exported.reshape(shapes)

    beam = opset13.parameter([-1], Type.i32, name="beam_idx")
    beam.output(0).get_tensor().add_names({"beam_idx"})
    for port in exported.inputs[3:]:
        readers = list(port.get_node().output(0).get_target_inputs())
        chosen = opset13.gather(port.get_node(), beam, opset13.constant(0))
        for reader in readers:
            reader.replace_source_output(chosen.output(0))
    exported.add_parameters([beam])
    exported.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(exported, dict(zip(past, present, strict=True)))

    rows = opset13.gather(
        opset13.shape_of(exported.input("input_ids").get_node(), output_type="i64"),
        opset13.constant([0]),
        opset13.constant(0),
    )
    shape = opset13.concat([rows, opset13.constant(np.array([heads, 0, width], dtype=np.int64))], 0)
    for node in exported.get_ops():
        if node.get_type_name() == "ReadValue":
            zero = opset13.constant(0, dtype=node.get_output_element_type(0))
            node.set_arguments([opset13.broadcast(zero, shape).output(0)])
    exported.validate_nodes_and_infer_types()


@contextlib.contextmanager
def _silence() -> Any:
    """Without the tracer's warnings: what it takes for constants is constant here."""
    root = logging.getLogger()
    level = root.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.setLevel(logging.ERROR)
        try:
            yield
        finally:
            root.setLevel(level)
