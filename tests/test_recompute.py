"""One bridge, recomputed by hand: no code of the project, only its weights and rows."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from conftest import Project
from pyarrow import parquet
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

LABELS = ["red", "blue", "green stone"]


def attention(x: torch.Tensor, keys: torch.Tensor, w: dict[str, torch.Tensor], at: str):
    """Multi-head attention of x [M, W] over keys [T, W] with 2 heads, from its weights."""
    wq, wk, wv = w[f"{at}.in_proj_weight"].chunk(3)
    bq, bk, bv = w[f"{at}.in_proj_bias"].chunk(3)
    q, k, v = x @ wq.T + bq, keys @ wk.T + bk, keys @ wv.T + bv
    heads = []
    for qh, kh, vh in zip(q.chunk(2, 1), k.chunk(2, 1), v.chunk(2, 1), strict=True):
        heads.append(torch.softmax(qh @ kh.T / qh.shape[1] ** 0.5, -1) @ vh)
    return torch.cat(heads, 1) @ w[f"{at}.out_proj.weight"].T + w[f"{at}.out_proj.bias"]


def norm(x: torch.Tensor, w: dict[str, torch.Tensor], at: str) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], w[f"{at}.weight"], w[f"{at}.bias"])


def soft_tokens(states: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    """The message [M, R] that a perceiver of one block makes of the sender's states [T, S]."""
    keys = states @ w["enter.weight"].T + w["enter.bias"]
    x, block = w["latents"], "blocks.0"
    x = x + attention(norm(x, w, f"{block}.norm_cross"), keys, w, f"{block}.cross")
    y = norm(x, w, f"{block}.norm_self")
    x = x + attention(y, y, w, f"{block}.self_attention")
    y = norm(x, w, f"{block}.norm_feed") @ w[f"{block}.feed.0.weight"].T + w[f"{block}.feed.0.bias"]
    x = x + functional.gelu(y) @ w[f"{block}.feed.2.weight"].T + w[f"{block}.feed.2.bias"]
    x = x @ w["leave.weight"].T + w["leave.bias"]
    return w["scale"] * x / (x.pow(2).mean(-1, keepdim=True) + 1e-8).sqrt()


@torch.no_grad()
def label_scores(folder: Path, weights: dict[str, torch.Tensor], text: str) -> list[float]:
    """Log-probability of each label after [BOS][query][soft tokens]; layer 1 is read."""
    llama, mistral = (
        AutoModelForCausalLM.from_pretrained(folder / "models" / name).float()
        for name in ("llama", "mistral")
    )
    reads, answers = (
        AutoTokenizer.from_pretrained(folder / "models" / name) for name in ("llama", "mistral")
    )
    prompt = reads.encode(f"Text: {text}\nColour:", add_special_tokens=False)
    ids = torch.tensor([[reads.bos_token_id, *prompt]])
    states = llama(input_ids=ids, output_hidden_states=True).hidden_states[1][0]
    message = soft_tokens(states, weights).bfloat16().float()
    scores = []
    for label in LABELS:
        query = answers.encode("Colour:", add_special_tokens=False)
        answer = answers.encode(f"Colour: {label}", add_special_tokens=False)[len(query) :]
        embed = mistral.get_input_embeddings()
        before = embed(torch.tensor([answers.bos_token_id, *query]))
        whole = torch.cat([before, message, embed(torch.tensor(answer))])
        logits = mistral(inputs_embeds=whole[None]).logits[0].log_softmax(-1)
        at = len(before) + len(message) - 1
        scores.append(sum(float(logits[at + i, token]) for i, token in enumerate(answer)))
    return scores


def test_a_bridge_recomputed_by_hand_scores_the_same(finished: Project) -> None:
    compared = 0
    for path in finished.runs.glob("evaluate-*/attempt-1"):
        record = json.loads((path / "evaluation.json").read_text())
        if record["arm"] != "bridge":
            continue
        (weights,) = (finished.runs / record["checkpoint"]["fit"]).glob("*/weights/epoch-002.*")
        rows = parquet.read_table(
            finished.runs / record["data"] / "attempt-1/rows/test.parquet"
        ).to_pylist()
        given = parquet.read_table(path / "predictions/test.parquet").to_pylist()
        for row, prediction in list(zip(rows, given, strict=True))[:5]:
            scores = label_scores(finished.folder, load_file(weights), row["context"])
            assert row["item"] == prediction["item"]
            torch.testing.assert_close(
                torch.tensor(scores), torch.tensor(prediction["label_logprobs"]), atol=1e-4, rtol=0
            )
            compared += 1
    assert compared == 10
