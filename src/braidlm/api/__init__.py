"""The Python surface: `LanguageModel`, and how one is loaded or built."""
