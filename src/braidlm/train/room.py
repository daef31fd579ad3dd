"""Room for documents in the positions that models declare: of the model that is trained, and of a teacher."""

from ..errors import InputError
from .data.pack import Pack
from .objective import States, TrainingObjective


def require_room(objective: TrainingObjective, pack: Pack, before: States | None = None) -> None:
    """`InputError` if a document of a packed sequence is longer than one of the objective's models can take.

    `before` are the states that the first row goes on from, one of each of the `state_models`.
    """
    begun = {} if before is None else dict(zip(objective.state_models, before, strict=True))
    for model in dict.fromkeys((objective.model, *objective.state_models)):
        limit = model.spec.max_positions
        seen = begun[model].length if model in begun else 0
        lengths = (pack.lengths[0] + seen, *pack.lengths[1:])
        longest = max(lengths)
        if limit is not None and longest > limit:
            raise InputError(
                f"document {pack.documents[lengths.index(longest)]} has reached {longest} tokens, more than the "
                f"{limit} positions of {'the model' if model is objective.model else 'the teacher'}; "
                "shorten the documents or stages.seq_len, or set run.carry_state=false"
            )


def cut_to_room(objective: TrainingObjective, pack: Pack) -> Pack:
    """Packed sequence whose documents are cut into pieces that each of the objective's models can take.

    Tokens and targets stay; a piece does not see the one before it.
    """
    limits = (model.spec.max_positions for model in (objective.model, *objective.state_models))
    limit = min((limit for limit in limits if limit is not None), default=max(pack.lengths))
    pieces = [
        (min(limit, length - begin), document)
        for length, document in zip(pack.lengths, pack.documents, strict=True)
        for begin in range(0, length, limit)
    ]
    lengths, documents = zip(*pieces, strict=True)
    return pack._replace(lengths=lengths, documents=documents)
