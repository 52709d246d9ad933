# pyright: basic
# (pyarrow is not typed)
"""The training set in the formats that trainers read: prompt and completion, chat messages, Parquet."""

from pathlib import Path
from typing import Any

import yaml

from secondnature.curated import discarded_rows, kept_rows
from secondnature.files import rewriting, to_line, write
from secondnature.run import Run
from secondnature.types import UserError

AT_ONCE = 5_000  # rows in memory while Parquet is written
PAIRS, CHAT, PARQUET, DISCARDED = (
    "prompt_completion.jsonl",
    "chat.jsonl",
    "prompt_completion.parquet",
    "discarded.jsonl",
)


def write_dataset(run: Run, out: Path, about: str) -> tuple[int, int]:
    """Write the kept prompts in three formats, the discarded ones with their reasons, and a card that says `about`.

    Returns how many were kept, and discarded. Raises UserError where pyarrow is not installed.
    """
    out.mkdir(parents=True)
    with rewriting(out / PAIRS) as pairs, rewriting(out / CHAT) as chat:
        for row in kept_rows(run):
            pairs.write(to_line({"prompt": row["prompt"], "completion": row["completion"]}))
            chat.write(to_line({"messages": [*row["prompt"], *row["completion"]]}))
    kept = _write_parquet(run, out / PARQUET)
    discarded = 0
    if run.discarded.exists():
        with rewriting(out / DISCARDED) as file:
            for row in discarded_rows(run):
                votes = [{"answer": answer, "count": count} for answer, count in row["votes"].items()]
                columns = {name: row[name] for name in ("id", "reason", "n", "agreement")}
                file.write(to_line({**columns, "votes": votes}))
                discarded += 1
    if not discarded:
        (out / DISCARDED).unlink(missing_ok=True)
    write(out / "README.md", _card(about, bool(discarded), kept))
    return kept, discarded


def _write_parquet(run: Run, target: Path) -> int:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ModuleNotFoundError:
        raise UserError("writing Parquet needs pyarrow: pip install 'secondnature[data]'") from None
    turns: Any = pyarrow.list_(pyarrow.struct({"role": pyarrow.string(), "content": pyarrow.string()}))
    schema: Any = pyarrow.schema(
        {
            "prompt": turns,
            "completion": turns,
            "id": pyarrow.string(),
            "answer": pyarrow.string(),
            "agreement": pyarrow.float64(),
            "n": pyarrow.int32(),
        }
    )
    kept = 0
    batch: list[dict[str, Any]] = []
    with ParquetWriter(target, schema) as writer:

        def flush() -> None:
            if batch:
                writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
                batch.clear()

        for row in kept_rows(run):
            batch.append({name: row[name] for name in schema.names})
            kept += 1
            if len(batch) == AT_ONCE:
                flush()
        flush()
    return kept


def _card(about: str, discarded: bool, kept: int) -> str:
    files = {"prompt_completion": PAIRS, "chat": CHAT}  # of one format: `load_dataset` mixes none
    if discarded:
        files["discarded"] = DISCARDED
    configs: list[dict[str, Any]] = [{"config_name": name, "data_files": file} for name, file in files.items()]
    configs[0]["default"] = True
    metadata = {"tags": ["second-nature", "synthetic"], "configs": configs}
    listed = (
        f"- `{DISCARDED}`: the prompts that were not kept, by id, each with the reason and how the samples voted.\n"
        if discarded
        else ""
    )
    return f"""---
{yaml.safe_dump(metadata, sort_keys=False).strip()}
---

# Prompts with the answers that a model agrees with itself about

{about}

{kept} prompts. The answers are a model's own. They are self-consistent, which is not to say true; nobody has checked them.
The prompts are those of the run's training data: their owner's terms hold.

- `{PAIRS}` and `{PARQUET}`: `prompt` and `completion`, as TRL's `SFTTrainer` reads them. The Parquet file has also each
  prompt's id, the answer that was voted on, the share of votes that it had, and the number of samples drawn.
- `{CHAT}`: `messages`, as chat fine-tuning services read them.
{listed}
```python
from datasets import load_dataset

train = load_dataset("json", data_files="{PAIRS}", split="train")  # in this folder
same = load_dataset("parquet", data_files="{PARQUET}", split="train")
```
"""
