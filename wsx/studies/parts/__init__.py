"""Parts of a report, each one question with its tables and figures: of one campaign, or of many together."""
