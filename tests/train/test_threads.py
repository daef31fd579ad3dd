"""A step on several threads, at sizes at which torch deals a sum out to them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from braidlm.adapters import Lora, attach
from braidlm.layers.linear import Embedding
from braidlm.model.footprint import skeleton
from braidlm.model.model import Model
from braidlm.spec import Attention, Block, Hyena, Mamba, Mamba2, Mlp, ModelSpec, Moe, Norm, Parallel, Rope
from braidlm.train.config import Loss, Stage
from braidlm.train.initial import initialise
from braidlm.train.language_model import LanguageModelObjective
from braidlm.train.loop import Hooks, Trainer
from tests.train.packings import OneText, pack_of
from tests.train.runs import config

# torch gives a second thread work from 32,768 numbers on.
GRAIN = 32_768
WIDTH, VOCAB, TOKENS = 128, 1024, (700, 300, 300, 47, 1, 400)
ATTENTION = Attention(heads=4, kv_heads=2, head_dim=32, rope=Rope(base=10000.0, dims=32))
MIXERS = {
    "mamba": Mamba(inner=256, d_state=16, dt_rank=8),
    "mamba2": Mamba2(heads=8, head_dim=32, d_state=32, groups=2),
    "hyena": Hyena(d_state=8, filters=32),
    "attention": ATTENTION,
    "parallel": Parallel(attention=ATTENTION, ssm=Mamba(inner=128, d_state=16, dt_rank=8)),
}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def documents() -> list[list[int]]:
    """Few different tokens, so that many gradients meet in the same row of the embedding."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, VOCAB // 4, (n,), generator=generator).tolist() for n in TOKENS]


def model(mixer: str, prefix: int) -> Model:
    ffn = Moe(experts=4, top_k=2, hidden=64)
    block = Block(mixer=MIXERS[mixer], ffn=ffn)
    spec = ModelSpec(vocab=VOCAB, width=WIDTH, blocks=(block,), norm=Norm(eps=1e-5), tied=True, meta_tokens=prefix)
    found = skeleton(spec)
    initialise(found, 0)
    return found.requires_grad_().train()


def hybrid() -> Model:
    """Mamba-2 and attention, each with a dense feed-forward, under a tied embedding."""
    blocks = tuple(Block(mixer=MIXERS[name], ffn=Mlp(hidden=256)) for name in ("mamba2", "attention"))
    found = skeleton(ModelSpec(vocab=VOCAB, width=WIDTH, blocks=blocks, norm=Norm(eps=1e-5), tied=True))
    initialise(found, 0)
    return found


def repeated(gradients: Callable[[], list[Tensor]], times: int) -> bool:
    """Whether the gradients are the same bits every time."""
    first = gradients()
    return all(all(torch.equal(a, b) for a, b in zip(first, gradients(), strict=True)) for _ in range(times))


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize(("mixer", "prefix"), [*((name, 0) for name in MIXERS), ("parallel", 130)])
def test_gradients_are_the_same_bits_each_time(mixer: str, prefix: int, adapted: bool) -> None:
    """Oracle: the first of the passes, over tied embedding, mixer, router and experts, or over adapters on all."""
    network = model(mixer, prefix)
    if adapted:
        attach(network, Lora(rank=8, target_modules=("all", "embed")))
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    objective, pack = LanguageModelObjective(network, Loss(z_loss=1e-3)), pack_of(documents())

    def gradients() -> list[Tensor]:
        return list(torch.autograd.grad(objective(pack).loss, parameters, materialize_grads=True))

    assert repeated(gradients, 3)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Oracle: the run without a stop, on two threads too: losses of all steps, and the weights after the last."""
    text = [token for document in documents() for token in document]

    def run(out: str, until: int | None = None) -> tuple[list[float], Model]:
        network, losses = hybrid(), []
        asked = config(tmp_path / out, Stage(steps=6, batch_size=1, seq_len=300), checkpoint=2, dtype="float32")
        trainer = Trainer(asked, network, OneText(text, (130, 131)), [])
        trainer.run(Hooks(stepped=lambda step: losses.append(step.loss)), until=until)
        return losses, network

    wanted, calm = run("calm")
    begun, _ = run("stopped", 5)
    rest, network = run("stopped")
    assert 300 * WIDTH > GRAIN and begun[:4] + rest == wanted
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), calm.parameters(), strict=True))


def test_sums_are_dealt_out_at_this_size() -> None:
    """Oracle: the gradient of indexing, whose sums two threads add to in turn: its bits change, those of `Embedding`
    do not.
    """
    ids_T = torch.tensor([token for document in documents() for token in document])
    assert len(ids_T) * WIDTH > GRAIN
    embedding = Embedding(VOCAB, WIDTH)
    embedding.weight.data = torch.zeros(VOCAB, WIDTH)
    dy_TD = torch.randn(len(ids_T), WIDTH, generator=torch.Generator().manual_seed(1))

    def gradients(rows_TD: Callable[[], Tensor]) -> Callable[[], list[Tensor]]:
        return lambda: list(torch.autograd.grad(rows_TD(), [embedding.weight], dy_TD))

    assert not repeated(gradients(lambda: embedding.weight[ids_T]), 200)
    assert repeated(gradients(lambda: embedding(ids_T)), 50)
