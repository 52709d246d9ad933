"""What this machine can run, what is missing, and what to do next."""

import importlib.util
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from secondnature.engines import ENGINES
from secondnature.engines.models import bundled_is_here, cache_folder
from secondnature.run import hardware, versions

# The extras of the package: the modules that each brings, and what it is good for.
EXTRAS = {
    **{engine.extra: (engine.modules, engine.purpose) for engine in ENGINES.values() if not engine.hidden},
    "view": (("starlette", "uvicorn"), "a run in the browser"),
    "data": (("datasets", "pyarrow"), "prompts from Parquet files and Hugging Face datasets"),
    "math": (("math_verify",), "values of expressions such as 3\\sqrt{2} in answers"),
    "lm-eval": (("lm_eval",), "benchmarks of other abilities: evaluate.lm_eval"),
    "trackers": (("mlflow", "tensorboard"), "training in MLflow and TensorBoard: train.report_to"),
}
HUB = "https://huggingface.co"
PATIENCE = 3.0  # seconds that the hub has to answer
USABLE = 0.7  # the share of the memory that a model may take
TRAINING = 1.5  # times the weights' memory that training an adapter takes, roughly
GIB = 2**30


def examine(*, online: bool) -> tuple[list[tuple[str, str]], bool]:
    """What there is to say, by line, and whether models can run in this process. The hub is asked only where `online`."""
    lines = [(name, str(value)) for name, value in {**versions(), **hardware()}.items()]
    ram = memory()
    if ram is not None:
        lines.append(("memory", f"{ram / GIB:.0f} GiB"))
    cache = cache_folder()
    free = shutil.disk_usage(next(place for place in (cache, *cache.parents) if place.exists())).free
    lines.append(("model cache", f"{cache}, {free / GIB:.0f} GiB free"))
    here = "fetched" if bundled_is_here() else "fetched from the Python package index when first used"
    lines.append(("embedded model", f"bundled:smollm2-135m, {here}"))
    lines.append(("hub", _hub() if online else "not asked (doctor --online does)"))
    missing = [name for name, (modules, _) in EXTRAS.items() if not all(map(importlib.util.find_spec, modules))]
    ready = "local" not in missing
    if ready:
        lines += _engine(ram, "openvino" not in missing)
    else:
        lines.append(("engines", "none in this process"))
    for name in missing:
        lines.append((f"no {name}", f"{EXTRAS[name][1]}: pip install 'secondnature[{name}]'"))
    then = "secondnature demo, or a recipe and sample data of your kind: secondnature init classifier"
    lines.append(("next", then if ready else "pip install 'secondnature[local,openvino]'"))
    return lines, ready


def _engine(ram: int | None, has_openvino: bool) -> Iterator[tuple[str, str]]:
    """What would run a model, and how large a one."""
    import torch

    from secondnature.engines.loading import pick_device, pick_dtype

    device = pick_device()
    dtype = pick_dtype(device)
    name = str(dtype).removeprefix("torch.")
    fast = device == "cpu" and has_openvino
    yield "engines", f"{'openvino (models that it knows), ' if fast else ''}transformers on {device}, {name}"
    if device == "cuda":
        ram = torch.cuda.mem_get_info()[1]
        yield "GPU", f"{torch.cuda.get_device_name()}, {ram / GIB:.0f} GiB"
    if ram is not None:
        most = USABLE * ram / (dtype.itemsize * TRAINING) / 1e9
        size = f"{most:.0f}" if most >= 2 else f"{most:.1f}"
        yield "fits", f"models of up to about {size}B parameters, trained too (a rough guess, from the memory)"


def memory() -> int | None:
    """Bytes of memory that this machine has, or that its container may use; None where the system does not say."""
    try:
        most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    container = Path("/sys/fs/cgroup/memory.max")
    limit = container.read_text().strip() if container.exists() else "max"
    return min(most, int(limit)) if limit.isdecimal() else most


def _hub() -> str:
    """Whether the hub answers, within PATIENCE: a look-up of its address could take much longer."""
    address = os.environ.get("HF_ENDPOINT", HUB)
    said: list[str] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE).close()
            said.append("answers")
        except urllib.error.HTTPError:
            said.append("answers")
        except (OSError, ValueError) as error:
            said.append(
                f"out of reach ({getattr(error, 'reason', None) or error}): name models by folder or .gguf file"
            )

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return f"{address} {said[0] if said else f'did not answer in {PATIENCE:.0f} s'}"
