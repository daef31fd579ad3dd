"""Text that models write beside plain prose: reasoning and tool calls, found as the text arrives."""
