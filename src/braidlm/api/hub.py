"""Download of checkpoints from the Hugging Face hub, or from its cache on this machine."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from ..errors import InputError, UnavailableError

_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.model", "*.model.v*", "*.tiktoken"]
_FILES += ["merges.txt", "*vocab*.txt"]
_LEFT_OUT = ["consolidated*", "original/*"]  # the same weights once more, in the layout of their makers alone


def download(hub_id: str, allow_pickle: bool) -> Path:
    """Downloads the files of a model that can be read here, unless they are here already; returns their directory."""
    return download_files(hub_id, [*_FILES, "*.bin"] if allow_pickle else _FILES)


def download_files(hub_id: str, files: list[str]) -> Path:
    """Downloads the files of a model that match one of these patterns, unless they are here already."""
    try:
        return Path(snapshot_download(hub_id, allow_patterns=files, ignore_patterns=_LEFT_OUT))
    except LocalEntryNotFoundError:
        raise UnavailableError(
            f"{hub_id} is not in the local cache and the Hugging Face hub cannot be reached"
        ) from None
    except HFValidationError as error:
        raise InputError(f"{hub_id} is no hub id: {str(error).splitlines()[0]}") from None
    except HfHubHTTPError as error:
        raise UnavailableError(f"the Hugging Face hub refused {hub_id}: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise UnavailableError(f"{hub_id} could not be downloaded: {str(error).splitlines()[0]}") from None
