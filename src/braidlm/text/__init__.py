"""Text on its way into models and out of them: vocabularies, chat templates, reasoning and tool calls."""
