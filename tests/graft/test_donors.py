"""Several donors in one: transplanted blocks, with and without bridges, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.errors import InputError
from braidlm.graft.donors import join_donors
from braidlm.graft.prepared import prepare
from braidlm.graft.recipe import read_recipe
from braidlm.graft.run import graft
from braidlm.model.model import Model
from braidlm.ops import Segments
from braidlm.spec import Attention, Block, Hyena, Mamba2, Mlp, ModelSpec, Moe, Norm, Rope
from tests.graft import small
from tests.tolerances import RELATIVE_LOGITS

WIDE = 40
# The weights of a block that read its stream, and those that write to it.
READING = ("mixer.q_proj", "mixer.k_proj", "mixer.v_proj", "ffn.gate_proj", "ffn.up_proj")
WRITING = ("mixer.o_proj", "ffn.down_proj")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a donor and copies of it: turned, and filled up with zeros to more channels and tokens."""
    place = tmp_path_factory.mktemp("donors")
    small.make(place)
    donor = braidlm.load(place / "donor", dtype="float32")
    generator = torch.Generator().manual_seed(3)
    turn_DD = torch.linalg.qr(torch.randn(32, 32, generator=generator, dtype=torch.float64)).Q
    _copy(donor, lambda x: x @ turn_DD.T, 32, 300).save(place / "turned")
    filled = _copy(donor, lambda x: torch.nn.functional.pad(x, (0, WIDE - 32)), WIDE, 310)
    filled.tokenizer = donor.tokenizer
    filled.save(place / "filled")
    return place


def _copy(donor: LanguageModel, move: Callable[[Tensor], Tensor], width: int, vocab: int) -> LanguageModel:
    """A model whose residual stream is that of `donor` moved; its gains are one, but for channels that are not there.

    `move` keeps lengths. Where it adds channels, a root mean square is over more of them; weights and eps make up.
    """
    share = 32 / width
    spec = replace(donor.spec, width=width, vocab=vocab, norm=Norm(eps=1e-5 * share))
    made = braidlm.build(spec, seed=9)
    made.tokenizer = donor.tokenizer
    source, target = dict(donor.network.named_parameters()), dict(made.network.named_parameters())
    for name, weight in target.items():
        layer, parts = name.removesuffix(".weight"), name.split(".")
        if name == "embed.weight":
            weight.data[:300] = move(source[name].double())
        elif layer.endswith("norm"):
            weight.data[:32] = 1.0
        elif layer.endswith(READING):
            gains_D = source[f"blocks.{parts[1]}.{parts[2]}_norm.weight"].double()
            weight.data.copy_(move(source[name].double() * gains_D) * share**0.5)
        elif layer.endswith(WRITING):
            weight.data.copy_(move(source[name].double().T).T)
    return made


def _recipe(place: Path, *, bridge: bool = False, donor: str = "donor", **other: str) -> Path:
    """Writes a recipe whose blocks 1 and 2 come from another donor; `other` replaces fields of the transplant."""
    fields = {"blocks": "1-2", "donor_blocks": "1-2", **other}
    text = "".join(f"{name} = {value!r}\n" for name, value in fields.items())
    (place / "several.toml").write_text(
        f'{small.RECIPE}\n[[donors]]\nname = "big"\nmodel = "{donor}"\n'
        f'[[transplants]]\ndonor = "big"\n{text}bridge = {str(bridge).lower()}\nfit_tokens = 2048\nridge = 1e-9\n'
    )
    return place / "several.toml"


def _logits(model: Model) -> Tensor:
    ids_T, segments = torch.arange(49) * 7 % 300, Segments((37, 12))
    with torch.no_grad():
        logits = model(ids_T, segments, model.training_state(2)).logits
    assert logits is not None
    return logits


def _joined(path: Path) -> tuple[Model, Model]:
    """The composite of a recipe, and its main donor."""
    recipe = read_recipe(path)
    main = braidlm.load(recipe.donor, dtype="float32")
    return join_donors(recipe, main).language.network, main.network


def test_a_donor_with_its_own_blocks(place: Path) -> None:
    """Oracle: the donor, bit for bit: its weights and its logits."""
    made, main = _joined(_recipe(place))
    assert all(torch.equal(weight, dict(main.named_weights())[name]) for name, weight in made.named_weights())
    assert made.weights.base_fingerprint() == main.weights.base_fingerprint()
    assert torch.equal(_logits(made), _logits(main))


def test_blocks_of_another_model(place: Path) -> None:
    """Oracle: the weights of the block that each was taken from, and of the donor around them."""
    spec = braidlm.load(place / "donor").spec
    mixed = replace(
        spec,
        blocks=(
            Block(mixer=Mamba2(heads=4, head_dim=16, d_state=8)),
            Block(mixer=Hyena(d_state=4, filters=8), ffn=Moe(experts=3, top_k=2, hidden=8), residual_scale=0.5),
        ),
    )
    other = braidlm.build(mixed, seed=4)
    other.tokenizer = braidlm.load(place / "donor").tokenizer
    other.save(place / "mixed", format="braidlm")
    made, main = _joined(_recipe(place, donor="mixed", blocks="1, 3", donor_blocks="all"))
    assert made.spec.blocks == (spec.blocks[0], mixed.blocks[0], spec.blocks[2], mixed.blocks[1])
    for index, (model, source) in enumerate(((main, 0), (other.network, 0), (main, 2), (other.network, 1))):
        expected = dict(model.blocks[source].named_parameters())
        assert expected.keys() == dict(made.blocks[index].named_parameters()).keys()
        assert all(torch.equal(w, expected[name]) for name, w in made.blocks[index].named_parameters())


def test_identities_bridge_a_copy_filled_up_with_zeros(place: Path) -> None:
    """Oracle: the donor's logits: what the channels that are cut off hold is zero in every stream."""
    made, main = _joined(_recipe(place, donor="filled", bridge=True))
    expected = _logits(main)
    assert (_logits(made) - expected).abs().max() <= RELATIVE_LOGITS[torch.float32] * expected.abs().max()
    assert (made.blocks[1].mixer.q_proj.weight - main.blocks[1].mixer.q_proj.weight).abs().max() > 0


def test_fitted_projections_bridge_a_turned_copy(place: Path) -> None:
    """Oracle: the donor's logits; a stream that is turned is turned back by a projection, which the text tells."""
    made, main = _joined(_recipe(place, donor="turned", bridge=True))
    expected, unlike = _logits(main), _joined(_recipe(place, donor="turned"))[0]
    assert (_logits(unlike) - expected).abs().max() > 0.1 * expected.abs().max()
    assert (_logits(made) - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_a_graft_of_several_donors(place: Path) -> None:
    """Oracle: the kinds of mixers that layout and transplants name, in a model that was trained and answers."""
    path = _recipe(place, donor="filled", bridge=True)
    recipe = read_recipe(path, ["layout.keep=0.0", f"run.out={place / 'out'}"])
    prepared = prepare(recipe)
    assert prepared.made_from["donors.0.model"] != prepared.made_from["donor"]
    assert graft(recipe, small.Quiet("distil", 1)) == 2
    assert graft(recipe, small.Quiet()) == 0
    made = braidlm.load(place / "out" / "model")
    assert [type(block.mixer).__name__ for block in made.spec.blocks] == ["Parallel"] * 4
    assert len(made.generate("def test", max_tokens=4)) > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"donor": "filled"},
            r"block 1 of big cannot .* block 1 of the donor: its model has a width of 40, .* of 32; ",
        ),
        ({"blocks": "3-4"}, r"transplants\.0\.blocks names block 4, but the donor has the blocks 0 to 3"),
        ({"donor_blocks": "2-5"}, r"transplants\.0\.donor_blocks names block 5"),
        ({"donor_blocks": "2"}, r"transplants\.0\.blocks names 2 blocks, but transplants\.0\.donor_blocks 1"),
    ],
)
def test_what_does_not_fit(place: Path, changes: dict[str, str], words: str) -> None:
    """Oracle: the block and both numbers, in the message."""
    with pytest.raises(InputError, match=words):
        prepare(read_recipe(_recipe(place, **changes)))


def test_models_that_do_not_fit(place: Path) -> None:
    """Oracle: the reason, in the message: other vocabularies and norms, meta tokens, shared keys and values, widths."""
    attention = Attention(heads=4, kv_heads=2, head_dim=8, rope=Rope(base=1e4, dims=8))
    shared = Block(mixer=replace(attention, kv_from=0), ffn=Mlp(hidden=48))
    long = Block(mixer=Hyena(d_state=4, filters=8))
    spec = ModelSpec(vocab=300, width=32, blocks=(Block(mixer=attention), long, shared), norm=Norm(eps=1e-5))
    for number, (other, bridge, words) in enumerate((
        (replace(spec, vocab=304), False, "its model has a vocabulary of 304, but the donor of 300; .*bridge = true"),
        (replace(spec, norm=Norm(eps=1e-6)), False, "a norm of .*1e-06.*, but the donor of .*1e-05"),
        (spec, False, "its model has not the donor's tokenizer; .*bridge = true"),
        (replace(spec, meta_tokens=2), True, "its model has 2 meta tokens, but the donor 0"),
        (spec, True, "block 2 of big cannot .* block 2 .*: its keys and values are those of block 0"),
        (replace(spec, blocks=(long,) * 3), True, "block 1 of big cannot be bridged: .* of its Hyena depends on"),
    )):  # fmt: skip
        braidlm.build(other, seed=2).save(place / f"other-{number}", format="braidlm")
        with pytest.raises(InputError, match=words):
            prepare(read_recipe(_recipe(place, donor=f"other-{number}", bridge=bridge)))


def test_blocks_that_make_room(place: Path) -> None:
    """Oracle: the block, in the message: one that is named twice, one that loses its keys and values."""
    recipe = read_recipe(_recipe(place))
    main = braidlm.load(place / "donor")
    with pytest.raises(InputError, match="transplants give block 1 of the donor twice"):
        join_donors(replace(recipe, transplants=recipe.transplants * 2), main)
    blocks = main.spec.blocks
    attention = blocks[1].mixer
    assert isinstance(attention, Attention)
    spec = replace(main.spec, blocks=(*blocks[:3], replace(blocks[3], mixer=replace(attention, kv_from=1))))
    with pytest.raises(
        InputError, match=r"block 3 of the donor uses keys and values of block 1, whose place .* of big"
    ):
        join_donors(recipe, braidlm.build(spec, seed=1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('donor = "small"', r"transplants\.0\.donor is 'small', but must be one of the donors' names \(big\)"),
        ("ridge = 0.0", "transplants.ridge is 0.0, but must be above 0"),
    ],
)
def test_settings_that_make_no_sense(place: Path, change: str, words: str) -> None:
    """Oracle: the field, in the message."""
    path = _recipe(place)
    name = change.split()[0]
    table = path.read_text().partition("[[transplants]]")
    lines = [change if line.startswith(f"{name} ") else line for line in table[2].splitlines()]
    path.write_text("\n".join((table[0] + table[1], *lines)))
    with pytest.raises(InputError, match=words):
        read_recipe(path)
