"""One file a behaviour task: a generator of prompts with right and wrong next tokens."""
