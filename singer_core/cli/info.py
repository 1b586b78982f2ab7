"""`singer info`: what a checkpoint file is and holds."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..settings import setting, steps_in_words

if TYPE_CHECKING:
    from ..network.checkpoint import Checkpoint

DESCRIPTION = """
Say what FILE is: variant, widths, parts with their parameter counts, dtype, whether the SFM looks trained,
and the gains that the MSM is expected to give the sub-bands of a 16-frame clip. FILE may be a folder with the
four stage-1 files. The content decides, not the name.
"""


@dataclass(frozen=True)
class Arguments:
    file: Path | None = setting(None, "Checkpoint file or stage-1 folder.", positional=True)
    json: bool = setting(False, "Print JSON.")
    expected_keys: bool = setting(
        False, "Print name -> shape of every tensor of a full-size checkpoint as JSON, and stop."
    )


def run(args: Arguments) -> int:
    if args.expected_keys:
        from ..network.architecture import Architecture
        from ..network.checkpoint import expected_shapes

        shapes = expected_shapes(Architecture())
        lines = (f"{json.dumps(key)}: {list(shape)}" for key, shape in shapes.items())
        print("{", ",\n".join(lines), "}", sep="\n")
        return 0
    if args.file is None:
        raise ValueError("No FILE was given. Name a checkpoint, or use --expected-keys.")
    report = _report(args.file)
    print(json.dumps(report, indent=2) if args.json else _text(report))
    return 0


def _report(path: Path) -> dict[str, Any]:
    from ..network.checkpoint import VARIANTS, open_checkpoint, parameter_counts, spectral_report

    checkpoint = open_checkpoint(path)
    dtypes = sorted({str(dtype).removeprefix("torch.") for dtype in checkpoint.file.dtypes.values()})
    counts = parameter_counts(checkpoint)
    return {
        "file": str(path),
        "variant": checkpoint.variant,
        "description": VARIANTS[checkpoint.variant],
        "dtype": dtypes,
        "tensors": len(checkpoint.file.shapes),
        "parameters": sum(counts.values()),
        "parts": counts,
        "architecture": dataclasses.asdict(checkpoint.architecture),
        "metadata": checkpoint.file.metadata,
        **_distilled(checkpoint),
        **spectral_report(checkpoint),
    }


def _distilled(checkpoint: Checkpoint) -> dict[str, Any]:
    """The steps that a network was made for; nothing of others."""
    if not checkpoint.distilled_steps:
        return {}
    guidance = checkpoint.file.metadata.get("singer.folded_guidance", "")
    return {"distilled": {"steps": checkpoint.distilled_steps, "folded_guidance": guidance.split(",")}}


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['file']}: {report['description']}, {', '.join(report['dtype'])}",
        f"{report['tensors']} tensors, {report['parameters']:,} values",
        "",
        *(f"  {count:>15,}  {part}" for part, count in report["parts"].items()),
        "",
    ]
    if "distilled" in report:
        made = report["distilled"]
        scales, taught = " and ".join(made["folded_guidance"]), report["metadata"].get("singer.recipe")
        how = f"distilled, guidance learnt: {scales}" if taught == "distill" else "by its own training"
        lines.append(f"made for {steps_in_words(made['steps'])} without guidance ({how})")
    if "sfm" in report:
        sfm = report["sfm"]
        verdict = "looks trained" if sfm["looks_trained"] else "looks untrained; try --set sfm_strength=0"
        lines.append(f"SFM {verdict} (entries std {sfm['entry_std']:.3f}, gains std {sfm['gain_std']:.3f})")
    if "msm_expected_gains" in report:
        gains = ", ".join(f"{band} {gain:.3f}" for band, gain in report["msm_expected_gains"].items())
        lines.append(f"MSM expected gains of a 16-frame clip: {gains}")
    lines += [f"{key}: {value}" for key, value in report["metadata"].items()]
    return "\n".join(lines).rstrip()
