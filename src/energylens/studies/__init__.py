"""One file per question: a frozen configuration and a function that wires the rooms."""
