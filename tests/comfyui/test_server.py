"""The pack on a real server: what it announces, whole graphs over HTTP, cancelling, errors a user sees."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import graphs
import pytest
import tiny
import torch
from safetensors.torch import load_file
from server import RUN_SECONDS, SONG_FRAMES, Server

from singer_core.render.video import probe_video

PACK = Path(__file__).resolve().parents[2]


def outputs(server: Server, pattern: str) -> list[Path]:
    return sorted((server.base / "output").glob(pattern))


def succeeded(entry: dict) -> bool:
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    return True


def test_the_server_offers_the_nodes_of_the_snapshot(server):
    expected = json.loads((Path(__file__).parent / "schemas.json").read_text(encoding="utf-8"))
    found = server.get("object_info")
    ours = {name: info for name, info in found.items() if "sing er" in info["python_module"]}
    assert set(ours) == set(expected)
    for name, info in ours.items():
        assert info["display_name"] == expected[name]["display_name"]
        assert info["output"] == expected[name]["output"]
        assert set(info["input"].get("required", {})) == set(expected[name]["input"].get("required", {}))


def test_the_pack_loads_without_complaint(server):
    said = server.said()
    assert re.search(r"[\d.]+ seconds: .*sing er", said)
    assert "IMPORT FAILED" not in said and "Error while calling comfy_entrypoint" not in said


def test_a_whole_song_becomes_a_video_twice_the_same(server):
    for run in ("first", "second"):
        assert succeeded(server.run(graphs.whole_song(run)))
    latents = [
        load_file(outputs(server, f"{run}*.latent")[0])["latent_tensor"] for run in ("first", "second")
    ]
    assert latents[0].shape == (SONG_FRAMES, 4, 16, 16) and torch.equal(*latents)
    found = probe_video(outputs(server, "first*.mp4")[0])
    assert (found.frames, found.fps, found.size) == (SONG_FRAMES, 25.0, (160, 160))
    assert found.has_audio and abs(found.seconds - SONG_FRAMES / 25) < 0.01


def test_one_clip_needs_no_sampler_of_ours(server):
    assert succeeded(server.run(graphs.one_clip("clip")))
    found = probe_video(outputs(server, "clip*.mp4")[0])
    assert (found.frames, found.size, found.has_audio) == (4, (128, 128), True)


def test_cancel_stops_within_a_step(server):
    prompt_id = server.queue(graphs.whole_song("cancelled", steps=1000))
    end = time.monotonic() + RUN_SECONDS
    while not server.get("queue")["queue_running"] and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(4)
    before = time.monotonic()
    server.post("interrupt", {})
    messages = server.wait(prompt_id)["status"]["messages"]
    assert time.monotonic() - before < 120  # 3000 steps take longer
    assert messages[-1][0] == "execution_interrupted"
    assert not outputs(server, "cancelled*.mp4")
    assert succeeded(server.run(graphs.one_clip("afterwards")))


def test_a_cancelled_song_goes_on_from_its_last_clip(server):
    """All nodes run again here (--cache-none), as after a restart."""
    prompt = graphs.whole_song("resumed", steps=30)
    forget(server)
    prompt_id = server.queue(prompt)
    end = time.monotonic() + RUN_SECONDS
    while not kept(server) and time.monotonic() < end:
        time.sleep(0.05)
    server.post("interrupt", {})
    assert server.wait(prompt_id)["status"]["messages"][-1][0] == "execution_interrupted"
    assert 1 <= len(kept(server)) < 3 and not outputs(server, "resumed*")
    first = kept(server)[0]
    made = first.stat().st_ino
    again = server.queue(prompt)
    while len(kept(server)) < 3 and not server.get(f"history/{again}") and time.monotonic() < end:
        time.sleep(0.02)
    assert first.stat().st_ino == made  # not sampled again
    assert succeeded(server.wait(again))
    forget(server)
    assert succeeded(server.run(graphs.whole_song("at_once", steps=30)))
    resumed, at_once = (
        load_file(outputs(server, f"{name}*.latent")[0])["latent_tensor"] for name in ("resumed", "at_once")
    )
    assert torch.equal(resumed, at_once)


def kept(server: Server) -> list[Path]:
    """Finished clips on disk, where they stay for retakes."""
    return list(server.base.glob("singer-*/*/clip-*.safetensors"))


def forget(server: Server) -> None:
    for path in kept(server):
        path.unlink()


def test_errors_are_in_the_packs_words(server):
    entry = server.run(graphs.whole_song("late", length=12))
    (kind, error) = entry["status"]["messages"][-1]
    assert kind == "execution_error" and error["node_type"] == "SingerConditioning"
    assert error["exception_message"].startswith("`length` is 12; from frame 0 on the song has 10 frames.")
    refused = server.post(
        "prompt", {"prompt": graphs.whole_song("away", checkpoint="../../secret.safetensors")}
    )
    assert refused["node_errors"]["model"]["errors"][0]["type"] == "value_not_in_list"


@pytest.mark.parametrize(
    ("takes", "place"),
    [
        ("0.1-0.2:7; 0.15-0.3:8", "`takes`: '0.15-0.3:8' overlaps 0.1-0.2:7."),
        ("0.1-0.2", "`takes`: '0.1-0.2': a take is seconds from-to and a seed"),
        ("0.1-0.2:7 nose 2", "`takes`: '0.1-0.2:7 nose 2': 'nose' is none of pose, face, lip."),
    ],
)
def test_takes_are_read_before_the_queue_runs(server, takes, place):
    prompt = graphs.whole_song("refused")
    prompt["samples"]["inputs"]["takes"] = takes
    (error,) = server.post("prompt", {"prompt": prompt})["node_errors"]["samples"]["errors"]
    assert error["extra_info"]["input_name"] == "takes" and place in error["details"]


def test_marks_are_read_before_the_queue_runs(server):
    prompt = graphs.whole_song("refused")
    weighed = {"pose": 1.0, "face": 1.0, "lip": 1.0, "beat": 0.0, "loudness": 0.0, "silence": 0.0}
    inputs = {"singer_audio": ["audio", 0], **weighed, "marks": "0:31-0:30 lip 1.2"}
    prompt["weights"] = graphs.node("SingerMotionWeights", **inputs)
    prompt["conditioning"]["inputs"]["weights"] = ["weights", 0]
    (error,) = server.post("prompt", {"prompt": prompt})["node_errors"]["weights"]["errors"]
    assert "`marks`: '0:31-0:30 lip 1.2': 0:30 is not behind 0:31." in error["details"]


def test_a_node_that_is_gone_is_replaced(server):
    prompt = graphs.one_clip("replaced")
    widgets = {"interval": 3, "level": 1, "start_percent": 0.0, "end_percent": 1.0}
    prompt["cache"] = graphs.node("SingerDeepCache", model=["model", 0], **widgets) | {"_meta": {}}
    prompt["samples"]["inputs"]["model"] = ["cache", 0]
    assert succeeded(server.run(prompt))
    assert set(server.get("node_replacements")) >= {"SingerDeepCache"}


def test_help_pages_and_translations_are_served(server):
    translations = server.get("i18n")
    assert set(translations["zh"]["nodeDefs"]) >= {"SingerSampler", "SingerModelLoader"}


def test_blueprints_are_served(server):
    found = [entry["name"] for entry in server.get("global_subgraphs").values()]
    assert {path.stem for path in (PACK / "subgraphs").glob("*.json")} <= set(found)


_ = tiny  # the fixture files of the small network are its
